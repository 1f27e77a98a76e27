"""What goes in and out of containers: pipes in both directions, logs, and many who listen, some slowly."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from .conftest import Lab, wait_until

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

MIB = 1 << 20
COUNT = 20_000


def _numbers(first: int, last: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, last + 1))


def test_megabytes_go_in_and_out_at_once(lab: Lab) -> None:
    data = os.urandom(8 * MIB)
    client = lab.begin("run", "--rm", "-i", "busybox", "cat")
    out, err = client.communicate(data, timeout=60)
    assert client.returncode == 0, err
    assert out == data


def test_the_end_of_the_input_is_not_the_end_of_the_output(lab: Lab) -> None:
    client = lab.begin("run", "--rm", "-i", "busybox", "sh", "-c", "cat; sleep 0.3; echo after; exit 3")
    out, _ = client.communicate(b"before\n", timeout=60)
    assert (out, client.returncode) == (b"before\nafter\n", 3)


def test_a_file_can_be_the_input(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(_numbers(1, COUNT))
    with open(tmp_path / "data", "rb") as file:
        client = lab.begin("run", "--rm", "-i", "busybox", "md5sum", stdin=file.fileno())
        out, _ = client.communicate(timeout=60)
    assert out.split()[0].decode() == hashlib.md5(_numbers(1, COUNT), usedforsecurity=False).hexdigest()


def test_without_interest_in_input_there_is_none(lab: Lab) -> None:
    assert lab("run", "--rm", "busybox", "sh", "-c", "cat; echo $?", data=b"unseen").out == "0\n"


def test_both_streams_stay_apart(lab: Lab) -> None:
    outcome = lab("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (outcome.out, outcome.err) == ("out\n", "err\n")


def test_a_log_has_all_that_a_detached_container_wrote(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "writer", "busybox", "sh", "-c", f"seq {COUNT}; printf unfinished")
    lab.ok("wait", "writer")
    assert lab.log("writer") == _numbers(1, COUNT) + b"unfinished"
    assert lab("logs", "writer").out.encode() == _numbers(1, COUNT) + b"unfinished"


def test_who_attaches_while_it_writes_gets_the_rest_and_the_log_has_everything_once(lab: Lab) -> None:
    script = f"i=0; while [ $i -lt {COUNT} ]; do i=$((i+1)); echo $i; [ $((i % 100)) = 0 ] && sleep 0.04; done; exit 6"
    lab.ok("run", "-d", "--name", "writer", "busybox", "sh", "-c", script)
    clients = [lab.begin("attach", "--no-stdin", "writer") for _ in range(5)]
    for client in clients:
        out, err = client.communicate(timeout=120)
        assert client.returncode == 6, err
        first = int(out.split(b"\n", 1)[0]) if out else COUNT + 1
        assert out == _numbers(first, COUNT)
    assert lab.log("writer") == _numbers(1, COUNT)


def test_a_slow_client_makes_the_container_wait_and_costs_the_spawner_a_bounded_amount(lab: Lab) -> None:
    total = 64 * MIB
    writer = f"yes 0123456789abcdef0123456789abcdef | head -c {total}"
    client = lab.begin("run", "--log-driver", "none", "--name", "flood", "busybox", "sh", "-c", writer)
    wait_until(lambda: lab.ids() and lab.get("flood").is_running)
    (spawner,) = lab.spawners()
    before_bytes = _private_bytes(spawner)
    time.sleep(1)  # in which a container that did not wait would have written it all
    assert lab.get("flood").is_running
    assert _private_bytes(spawner) - before_bytes < 8 * MIB
    out, _ = client.communicate(timeout=120)
    assert (len(out), client.returncode) == (total, 0)
    assert _private_bytes(spawner) - before_bytes < 8 * MIB


def _private_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_"))


def test_a_client_that_dies_does_not_hold_the_container_up(lab: Lab) -> None:
    client = lab.begin(
        "run", "--name", "survivor", "busybox", "sh", "-c", f"read x < /dev/null; seq {COUNT}; seq {COUNT}"
    )
    wait_until(lambda: lab.log("survivor"))
    client.kill()
    assert lab.ok("wait", "survivor") == "0"
    assert lab.log("survivor") == 2 * _numbers(1, COUNT)
    client.communicate(timeout=30)


def test_a_stopped_client_gets_everything_when_it_goes_on(lab: Lab) -> None:
    client = lab.begin("run", "--rm", "busybox", "sh", "-c", f"echo begun; sleep 0.5; seq {COUNT * 10}")
    assert client.stdout is not None
    first = client.stdout.readline()
    client.send_signal(signal.SIGSTOP)
    time.sleep(1)  # so that the container has met its full pipe
    client.send_signal(signal.SIGCONT)
    out, _ = client.communicate(timeout=60)
    assert first + out == b"begun\n" + _numbers(1, COUNT * 10)


def test_standard_input_of_a_detached_container_waits_for_who_attaches(lab: Lab) -> None:
    lab.ok("run", "-d", "-i", "--name", "reader", "busybox", "cat")
    client = lab.begin("attach", "reader")
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(b"typed\n")
    client.stdin.close()  # which is not the end of its input: another may attach
    assert client.stdout.readline() == b"typed\n"
    lab.ok("kill", "reader")
    assert client.wait(30) == 137
    for file in (client.stdout, client.stderr):
        assert file is not None
        file.close()


def test_a_start_that_attaches_hands_its_input_on(lab: Lab) -> None:
    lab.ok("create", "-i", "--name", "reader", "busybox", "cat")
    for text in (b"one\n", b"two\n"):
        client = lab.begin("start", "-a", "-i", "reader")
        out, _ = client.communicate(text, timeout=60)
        assert (out, client.returncode) == (text, 0)


def test_a_log_that_is_kept_short_has_the_end_of_the_output(lab: Lab) -> None:
    limits = ("--log-opt", "max-size=10k", "--log-opt", "max-file=3")
    out = lab.ok("run", "--name", "short", *limits, "busybox", "seq", str(COUNT))
    assert out.encode() + b"\n" == _numbers(1, COUNT)
    bundle = lab.get("short").state.bundle
    files = sorted(name for name in os.listdir(bundle) if name.startswith("container.log"))
    assert files == ["container.log", "container.log.1", "container.log.2"]
    assert all(os.path.getsize(os.path.join(bundle, name)) < 10 * 1024 + 100 for name in files)
    kept = lab.ok("logs", "short").split("\n")
    assert kept == [str(number) for number in range(COUNT + 1 - len(kept), COUNT + 1)]
    assert len(kept) > 2 * 10 * 1024 // 50


def test_a_log_that_is_not_wanted_is_not_there(lab: Lab) -> None:
    assert lab.ok("run", "--name", "silent", "--log-driver", "none", "busybox", "seq", "3") == "1\n2\n3"
    assert not os.path.exists(os.path.join(lab.get("silent").state.bundle, "container.log"))


def test_a_client_keeps_up_with_a_writer_that_has_two_streams(lab: Lab) -> None:
    script = f"seq {COUNT} & seq {COUNT} >&2; wait"
    client = lab.begin("run", "--rm", "busybox", "sh", "-c", script)
    collected: dict[str, bytes] = {}
    threads = [
        threading.Thread(target=lambda name=name, file=file: collected.update({name: file.read()}))
        for name, file in (("out", client.stdout), ("err", client.stderr))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert client.wait(60) == 0
    assert collected == {"out": _numbers(1, COUNT), "err": _numbers(1, COUNT)}
    for file in (client.stdin, client.stdout, client.stderr):
        assert file is not None
        file.close()


def test_a_client_whose_spawner_is_killed_again_and_again_misses_nothing(lab: Lab) -> None:
    line = "i=$((i + 1)); echo $i; echo e$i >&2; [ $((i % 4)) = 0 ] && sleep 0.01"
    client = lab.begin("run", "--name", "writer", "busybox", "sh", "-c", f"until [ -e /stop ]; do {line}; done")
    for _ in range(3):
        wait_until(lambda: lab.ids() and lab.get("writer").started_ns and lab.spawners())
        before = lab.log("writer")
        wait_until(lambda before=before: lab.log("writer") != before)
        os.kill(lab.spawners()[0], signal.SIGKILL)
    lab.ok("exec", "writer", "touch", "/stop")
    out, err = client.communicate(timeout=60)
    last = int(out.split()[-1])
    assert once(out.decode().splitlines()) == [str(number) for number in range(1, last + 1)]
    assert once(err.decode().splitlines()) == [f"e{number}" for number in range(1, last + 1)]


def once(lines: list[str]) -> list[str]:
    """Return lines without those that a log has twice: its writer was killed before it took what it wrote."""
    return list(dict.fromkeys(lines))
