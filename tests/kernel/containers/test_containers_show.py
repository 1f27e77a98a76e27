"""What the verbs that show tell of real containers: lists, documents, logs, use, processes, events, disk."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

import pytest

from lab.container.containers import Containers
from lab.container.log_file import LOG_FILE
from lab.linux.cgroup import layout as cgroup

from .conftest import TIMEOUT_S, Lab, wait_until

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]


def inspect(lab: Lab, name: str) -> dict[str, object]:
    documents = json.loads(lab.ok("inspect", name))
    assert len(documents) == 1
    return dict(documents[0])


# -- ps ----------------------------------------------------------------------------------------------------------------


def test_the_list_says_how_each_container_is(lab: Lab) -> None:
    lab.ok("create", "--name", "made", "busybox", "true")
    lab("run", "--name", "failed", "busybox", "sh", "-c", "exit 3")
    lab.ok("run", "-d", "--name", "frozen", "busybox", "sleep", "100")
    lab.ok("run", "-d", "--name", "awake", "busybox", "sleep", "100")
    lab.ok("pause", "frozen")
    lines = lab.ok("ps", "-a", "--format", "{{.Names}}|{{.State}}|{{.Status}}").splitlines()
    patterns = (
        r"awake\|running\|Up (Less than a second|\d+ seconds?)",
        r"frozen\|paused\|Up (Less than a second|\d+ seconds?) \(Paused\)",
        r"failed\|exited\|Exited \(3\) (Less than a second|\d+ seconds?) ago",
        r"made\|created\|Created",
    )
    for pattern, line in zip(patterns, lines, strict=True):
        assert re.fullmatch(pattern, line)
    assert lab.ok("ps", "--format", "{{.Names}}").splitlines() == ["awake", "frozen"]


def test_flags_choose_how_many_and_how_much_is_listed(lab: Lab) -> None:
    first, second = (lab.ok("create", "--name", name, "busybox", "true") for name in ("first", "second"))
    assert lab.ok("ps", "-q") == ""
    assert lab.ok("ps", "-aq").splitlines() == [second[:12], first[:12]]
    assert lab.ok("ps", "-lq", "--no-trunc") == second
    assert lab.ok("ps", "-n", "2", "-q").splitlines() == [second[:12], first[:12]]


def test_filters_choose_which_are_listed(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "web", "-l", "tier=front", "busybox", "sleep", "100")
    lab("run", "--name", "job", "busybox", "false")
    chosen = ("label=tier=front", "status=running", "name=^we", "ancestor=busybox", "network=none", "since=job")
    assert [lab.ok("ps", "--format", "{{.Names}}", "--filter", each) for each in chosen] == ["web"] * 5 + [""]
    assert lab.ok("ps", "-a", "--format", "{{.Names}}", "--filter", "exited=1") == "job"
    assert lab.ok("ps", "--format", "{{.Names}}", "--filter", "status=exited") == "job"
    assert lab("ps", "--filter", "colour=red").code == 1
    assert lab("ps", "--filter", "colour").code == 125


def test_the_size_is_what_the_container_has_written_beside_all_it_holds(lab: Lab) -> None:
    lab.ok("run", "--name", "full", "busybox", "sh", "-c", "head -c 3000000 /dev/zero > /file")
    assert re.fullmatch(r"3MB \(virtual \S+MB\)", lab.ok("ps", "-as", "--format", "{{.Size}}"))
    document = json.loads(lab.ok("inspect", "-s", "full"))[0]
    assert document["SizeRw"] == 3_000_000
    assert document["SizeRootFs"] > 3_000_000


# -- inspect -----------------------------------------------------------------------------------------------------------


def test_the_document_tells_what_was_asked_for_and_what_is(lab: Lab) -> None:
    lab.ok(
        *("run", "-d", "--name", "web", "-m", "64m", "--cpus", "0.5", "-e", "A=b", "-l", "x=y", "-w", "/tmp"),
        *("--restart", "on-failure:3", "--tmpfs", "/run:size=1m", "--cap-add", "NET_ADMIN", "--hostname", "box"),
        *("busybox", "sleep", "100"),
    )
    found = inspect(lab, "web")
    state, config, host = (found[key] for key in ("State", "Config", "HostConfig"))
    assert isinstance(state, dict) and isinstance(config, dict) and isinstance(host, dict)  # noqa: PT018 - one fact
    assert (state["Status"], state["Running"], state["ExitCode"]) == ("running", True, 0)
    assert os.path.exists(f"/proc/{state['Pid']}")
    assert (found["Path"], found["Args"], found["Name"]) == ("sleep", ["100"], "/web")
    assert (config["Hostname"], config["WorkingDir"], config["Labels"]["x"]) == ("box", "/tmp", "y")
    assert "A=b" in config["Env"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (64 << 20, 128 << 20, 500_000_000)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert host["Tmpfs"] == {"/run": "size=1m"}


def test_an_end_for_lack_of_memory_is_in_the_document_and_among_the_events(lab: Lab) -> None:
    since = str(time.time())
    code = lab("run", "--name", "greedy", "-m", "8m", "busybox", "sh", "-c", "x=$(yes | head -c 50000000)").code
    assert code == 137
    assert lab.ok("inspect", "-f", "{{.State.OOMKilled}}", "greedy") == "true"
    told = lab.ok("events", "--since", since, "--until", "0s", "--format", "{{.Action}}").splitlines()
    assert told.index("oom") < told.index("die")


def test_names_of_images_are_understood_and_unknown_ones_do_not_hide_the_others(lab: Lab) -> None:
    lab.ok("create", "--name", "made", "busybox", "true")
    outcome = lab("inspect", "-f", "{{.Id}}", "busybox", "none-such", "made")
    assert outcome.code == 1
    assert outcome.out.splitlines()[0].startswith("sha256:")
    assert len(outcome.out.splitlines()) == 2
    assert "No such object: none-such" in outcome.err
    assert lab("inspect", "--type", "image", "made").code == 1
    assert lab("container", "inspect", "busybox").code == 1


# -- logs --------------------------------------------------------------------------------------------------------------


def test_each_stream_of_a_log_goes_to_ours_of_its_kind(lab: Lab) -> None:
    lab("run", "--name", "talks", "busybox", "sh", "-c", "echo out; echo err >&2; printf open")
    outcome = lab("logs", "talks")
    assert (outcome.out, outcome.err) == ("out\nopen", "err\n")
    assert re.fullmatch(r"\S+Z open", lab("logs", "-t", "-n", "1", "talks").out)


def test_a_log_is_followed_until_the_container_has_ended(lab: Lab) -> None:
    script = "for n in 1 2 3; do echo $n; sleep 0.1; done; printf end"
    lab.ok("run", "-d", "--name", "counts", "busybox", "sh", "-c", script)
    assert lab.ok("logs", "-f", "counts") == "1\n2\n3\nend"


def test_following_shows_a_line_as_soon_as_it_is_written(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "waits", "busybox", "sh", "-c", "echo begun; sleep 100")
    follower = lab.begin("logs", "-f", "waits")
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"begun\n"
    assert follower.poll() is None
    lab.ok("kill", "waits")
    assert follower.wait(timeout=20) == 0
    follower.communicate()


def test_following_ends_when_container_and_supervisor_were_killed(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "orphan", "busybox", "sleep", "100")
    follower = lab.begin("logs", "-f", "orphan")
    wait_until(lambda: _watches(follower.pid))
    pid = int(lab.ok("inspect", "-f", "{{.State.Pid}}", "orphan"))
    (spawner,) = lab.spawners()
    os.kill(spawner, 9)
    os.kill(pid, 9)
    follower.communicate(timeout=20)
    assert follower.returncode == 0
    assert lab.ok("inspect", "-f", "{{.State.Status}}", "orphan") == "exited"


def _watches(pid: int) -> bool:
    links = (os.path.join(f"/proc/{pid}/fd", name) for name in os.listdir(f"/proc/{pid}/fd"))
    return any("inotify" in _target(link) for link in links)


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # closed meanwhile
        return ""


def test_a_long_log_takes_constant_memory_and_its_end_no_time(lab: Lab) -> None:
    lab("run", "--name", "long", "busybox", "echo", "first")
    line = b"2026-01-01T00:00:00.000000000Z stdout F " + b"x" * 99 + b"\n"
    with open(os.path.join(lab.get("long").state.bundle, LOG_FILE), "ab") as file:
        for _ in range(128):
            file.write(line * 8192)  # 140 MB in all
    assert lab.ok("logs", "--tail", "2", "long") == "\n".join(["x" * 99] * 2)
    # asked for by a process of its own: the peak of a program begins with that of who has forked it
    ask = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    argv = (sys.executable, "-c", ask, *lab.argv("logs", "long"))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 80_000, "KiB"


# -- stats, top --------------------------------------------------------------------------------------------------------


def test_use_is_told_as_it_is(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "busy", "-m", "64m", "busybox", "sh", "-c", "sleep 100 & while :; do :; done")
    lab.ok("create", "--name", "made", "busybox", "true")
    found = json.loads(lab.ok("stats", "--no-stream", "--format", "json", "busy"))
    assert float(found["CPUPerc"].removesuffix("%")) > 5
    assert found["MemUsage"].endswith(" / 64MiB")
    assert (found["Name"], found["PIDs"], found["NetIO"]) == ("busy", "2", "0B / 0B")
    names = lab.ok("stats", "--no-stream", "-a", "--format", "{{.Name}} {{.PIDs}}").splitlines()
    assert names == ["made 0", "busy 2"]
    assert lab("stats", "--no-stream", "none-such").code == 1


def test_processes_are_shown_with_the_hosts_pids(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "two", "busybox", "sh", "-c", "sleep 100 & sleep 200; true")
    wait_until(lambda: len(lab.ok("top", "two").splitlines()) == 4)
    heading, *rows = lab.ok("top", "two", "-eo", "pid,args").splitlines()
    assert heading.split() == ["PID", "COMMAND"]
    assert all(os.path.exists(f"/proc/{row.split()[0]}") for row in rows)
    assert sorted(row.split(None, 1)[1] for row in rows) == [
        "sh -c sleep 100 & sleep 200; true",
        "sleep 100",
        "sleep 200",
    ]
    assert lab("top", "two", "-eo", "comm").code == 1
    lab.ok("kill", "two")
    lab("wait", "two")
    assert lab("top", "two").code == 1


# -- events ------------------------------------------------------------------------------------------------------------


def test_the_life_of_a_container_is_told_in_order(lab: Lab) -> None:
    since = str(time.time())
    lab.ok("run", "-d", "--name", "one", "busybox", "sleep", "100")
    lab.ok("exec", "one", "true")
    lab.ok("pause", "one")
    lab.ok("unpause", "one")
    lab.ok("rename", "one", "other")
    lab.ok("restart", "-t", "0", "other")
    lab.ok("rm", "-f", "other")
    shown = ("--filter", "type=container", "--format", "{{.Action}} {{.Actor.Attributes.name}}")
    told = lab.ok("events", "--since", since, "--until", "0s", *shown)
    assert told.splitlines() == [
        *("create one", "start one", "exec_create: true one", "exec_start: true one", "exec_die one"),
        *("pause one", "unpause one", "rename other", "kill other", "kill other", "die other", "stop other"),
        *("start other", "restart other", "kill other", "die other", "destroy other"),
    ]


def test_the_end_of_a_program_that_nobody_waits_for_is_told(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "one", "busybox", "sleep", "100")
    follower = lab.begin("events", "--filter", "event=exec_die", "--format", "{{.Actor.Attributes.exitCode}}")
    wait_until(lambda: _watches(follower.pid))
    lab.ok("exec", "-d", "one", "sh", "-c", "exit 7")
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"7\n"
    follower.kill()
    follower.communicate()


def test_events_are_shown_as_they_happen(lab: Lab) -> None:
    follower = lab.begin("events", "--filter", "event=die", "--filter", "label=x=y", "--format", "{{.ID}}")
    wait_until(lambda: _watches(follower.pid))
    lab("run", "--rm", "busybox", "true")
    container_id = lab.ok("run", "-d", "-l", "x=y", "busybox", "true")
    assert follower.stdout is not None
    assert follower.stdout.readline().decode().strip() == container_id
    follower.terminate()
    follower.communicate()


# -- system ------------------------------------------------------------------------------------------------------------


def test_the_disk_is_told_and_freed(lab: Lab) -> None:
    lab.ok("run", "--name", "full", "busybox", "sh", "-c", "head -c 3000000 /dev/zero > /file")
    lab.ok("run", "-d", "--name", "stays", "busybox", "sleep", "100")
    rows = [json.loads(line) for line in lab.ok("system", "df", "--format", "json").splitlines()]
    images, containers, *_ = rows
    assert [row["Type"] for row in rows] == ["Images", "Containers", "Local Volumes", "Build Cache"]
    assert (images["TotalCount"], images["Active"]) == ("1", "1")
    assert (containers["TotalCount"], containers["Active"]) == ("2", "1")
    assert (containers["Size"], containers["Reclaimable"]) == ("3MB", "3MB (100%)")
    assert "full" in lab.ok("system", "df", "-v")
    assert "Total reclaimed space: 3MB" in lab.ok("system", "prune", "-f")
    assert lab.ok("ps", "-a", "--format", "{{.Names}}") == "stays"


def test_a_prune_takes_only_what_its_filters_mean(lab: Lab) -> None:
    for name, label in (("goes", "tier=old"), ("stays", "tier=new")):
        lab.ok("create", "--name", name, "-l", label, "busybox", "true")
    lab.ok("container", "prune", "-f", "--filter", "label=tier=old", "--filter", "until=0s")
    assert lab.ok("ps", "-a", "--format", "{{.Names}}") == "stays"
    lab.ok("container", "prune", "-f", "--filter", "label!=tier=new")
    lab.ok("container", "prune", "-f", "--filter", "until=24h")
    assert lab.ok("ps", "-a", "--format", "{{.Names}}") == "stays"


def test_a_refused_question_removes_nothing(lab: Lab) -> None:
    lab.ok("create", "--name", "made", "busybox", "true")
    lab("system", "prune", data=b"n\n")
    assert lab.ok("ps", "-aq", "--filter", "name=made")


def test_facts_are_those_of_this_host(lab: Lab) -> None:
    lab.ok("create", "--name", "made", "busybox", "true")
    found = json.loads(lab.ok("info", "--format", "json"))
    assert (found["Containers"], found["ContainersStopped"], found["Images"]) == (1, 1, 1)
    assert found["NCPU"] == os.cpu_count()
    assert lab.ok("version", "--format", "{{.Server.Version}}") == found["ServerVersion"]


def test_what_killed_processes_left_is_mended(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "alive", "busybox", "sleep", "100")
    lab.ok("run", "-d", "--rm", "--name", "short", "busybox", "sleep", "100")
    lab.ok("run", "-d", "--name", "lost", "busybox", "sleep", "100")
    pids = {name: int(lab.ok("inspect", "-f", "{{.State.Pid}}", name)) for name in ("alive", "short", "lost")}
    (spawner,) = lab.spawners()
    os.kill(spawner, 9)
    wait_until(lambda: not lab.spawners())
    for name in ("short", "lost"):
        os.kill(pids[name], 9)
    containers = lab.paths.containers
    os.mkdir(os.path.join(containers, ".new-1-1-gone"))
    os.symlink("f" * 64, os.path.join(containers, ".names", "stale"))
    wait_until(lambda: not any(os.path.exists(f"/proc/{pids[name]}") for name in ("short", "lost")))

    foreseen = lab.ok("system", "check", "--dry-run").splitlines()
    assert len(foreseen) == 5
    assert os.path.lexists(os.path.join(containers, ".names", "stale"))
    assert lab.ok("system", "check").splitlines() == foreseen
    assert not os.path.lexists(os.path.join(containers, ".names", "stale"))
    assert not os.path.exists(os.path.join(containers, ".new-1-1-gone"))
    assert lab.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "lost") in ("exited 137", "exited 255")
    wait_until(lambda: lab("inspect", "short").code == 1)
    assert int(lab.ok("inspect", "-f", "{{.State.Pid}}", "alive")) == pids["alive"]
    assert lab.ok("system", "check") == "nothing was left behind"


def test_a_cgroup_without_its_container_goes_unless_something_lives_in_it(lab: Lab) -> None:
    container_id = lab.ok("run", "-d", "--name", "one", "busybox", "true")
    lab("wait", "one")
    with Containers(lab.paths) as containers:
        state = containers.get("one").state
        directories = cgroup.directories(containers.engine.runtime.layout, state.cgroup)
        assert directories
        containers.engine.directory.remove(container_id)
    sleeper = subprocess.Popen(["sleep", "100"])
    try:
        with open(os.path.join(directories[0], "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(sleeper.pid))
        assert "left alone" in lab.ok("system", "check")
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
    assert "removed" in lab.ok("system", "check")
    assert not any(os.path.exists(directory) for directory in directories)


def test_names_of_images_come_and_go_among_the_events(lab: Lab) -> None:
    since = str(time.time())
    lab.ok("tag", "busybox", "other:1")
    lab.ok("rmi", "other:1")
    told = lab.ok("events", "--since", since, "--until", "0s", "--filter", "type=image", "--format", "{{.Action}}")
    assert told.splitlines() == ["tag", "untag"]
