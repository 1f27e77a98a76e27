"""What every way of isolating promises: one test a rule, run unasked on each registered backend."""

from __future__ import annotations

import hashlib
import http.client
import os
import time

import pytest
from contract.places import LIMITS, PARENT, SHELL, Provision, eventually, shell

from lab.container.image.store import ImageStore
from lab.container.storage import snapshots
from lab.errors import TargetError, TargetTimeout
from lab.paths import Paths
from lab.target.protocol import Pausable, Reachable, Target
from lab.target.spec import Command, MarkName, NetworkMode

pytestmark = pytest.mark.root

SERVICE = Command(
    argv=(*SHELL, "mkdir -p /www; echo hello >/www/index.html; exec /bin/busybox httpd -f -p 8080 -h /www")
)
_STANDSTILL_NS = 6_000_000


def test_the_target_sees_the_bytes_of_the_stored_image(started: Target, paths: Paths) -> None:
    (layer, *_) = ImageStore.open(paths).layer_directories(started.spec.image)
    with open(os.path.join(layer, "bin/busybox"), "rb") as file:
        stored = hashlib.sha256(file.read()).hexdigest()
    assert shell(started, "/bin/busybox sha256sum /bin/busybox").split()[0] == stored


def test_memory_is_limited_and_the_limit_is_enforced(started: Target) -> None:
    footprint = started.footprint()
    if footprint.guest_memory:
        total = int(shell(started, "/bin/busybox awk '/MemTotal/ {print $2}' /proc/meminfo")) * 1024
        assert total <= LIMITS.memory_bytes
    else:
        assert _memory_limit(started) == LIMITS.memory_bytes
    grab = f"/bin/busybox dd if=/dev/zero of=/dev/null bs={2 * LIMITS.memory_bytes} count=1"
    try:
        assert started.exec(Command(argv=(*SHELL, grab))).exit_code != 0
    except TargetError:
        assert footprint.guest_memory  # a guest may die of it altogether


def _memory_limit(target: Target) -> int:
    for directory in target.footprint().cgroups:
        for file in ("memory.limit_in_bytes", "memory.max"):
            path = os.path.join(directory.path, file)
            if directory.controller == "memory" or (file == "memory.max" and os.path.exists(path)):
                with open(path, encoding="ascii") as content:
                    return int(content.read())
    raise AssertionError("no cgroup of the target limits memory")


def test_processors_are_limited(started: Target) -> None:
    if started.footprint().guest_memory and not any(c.controller == "cpu" for c in started.footprint().cgroups):
        assert shell(started, "/bin/busybox nproc") == str(LIMITS.vcpus)
        return
    for directory in started.footprint().cgroups:
        for file in ("cpu.cfs_quota_us", "cpu.max"):
            path = os.path.join(directory.path, file)
            if os.path.exists(path):
                with open(path, encoding="ascii") as content:
                    quota = content.read().split()[0]
                if quota not in ("-1", "max"):
                    assert int(quota) == LIMITS.vcpus * 100_000
                    return
    assert shell(started, "/bin/busybox nproc") == str(LIMITS.vcpus)


def test_marks_are_on_the_hosts_monotonic_clock_and_in_order(
    provision: Provision, marks: list[tuple[MarkName, int]]
) -> None:
    target = provision()
    requested_ns = time.monotonic_ns()
    target.start()
    returned_ns = time.monotonic_ns()
    names = [name for name, _ in marks]
    times = [requested_ns, *(at_ns for _, at_ns in marks), returned_ns]
    assert names[-1] is MarkName.READY
    assert [name for name in MarkName if name in names] == names
    assert times == sorted(times)


def test_cgroups_lie_below_the_parent_that_the_harness_names(started: Target) -> None:
    directories = started.footprint().cgroups
    assert directories
    assert all(f"/{PARENT}/" in directory.path for directory in directories)


def test_the_footprint_has_processes_that_exist(started: Target) -> None:
    footprint = started.footprint()
    assert footprint.pids
    assert all(os.path.exists(f"/proc/{pid}") for pid in (*footprint.pids, *footprint.helper_pids))


def test_exec_passes_input_environment_directory_output_and_exit_code(started: Target) -> None:
    script = "cat; echo $COLOUR; pwd; echo wrong >&2; exit 3"
    command = Command(argv=(*SHELL, script), env=(("COLOUR", "blue"),), cwd="/bin", stdin=b"in\n")
    done = started.exec(command)
    assert (done.exit_code, done.stdout, done.stderr) == (3, b"in\nblue\n/bin\n", b"wrong\n")


@pytest.mark.parametrize("program", ["/no/such/program", "no-such-program"])
def test_a_missing_program_is_exit_code_127(started: Target, program: str) -> None:
    assert started.exec(Command(argv=(program,))).exit_code == 127


def test_a_program_that_cannot_be_executed_is_exit_code_126(started: Target) -> None:
    assert started.exec(Command(argv=("/etc",))).exit_code == 126


@pytest.mark.parametrize("code", [1, 125, 126, 127, 255])
def test_a_programs_own_exit_code_and_words_are_passed_on(started: Target, code: int) -> None:
    done = started.exec(Command(argv=(*SHELL, f"echo error: not found >&2; exit {code}")))
    assert (done.exit_code, done.stdout, done.stderr) == (code, b"", b"error: not found\n")


def test_a_working_directory_that_is_not_there_is_an_error_that_names_it(started: Target) -> None:
    with pytest.raises(TargetError, match="/no/where") as caught:
        started.exec(Command(argv=("/bin/busybox", "true"), cwd="/no/where"))
    assert caught.value.phase == "exec"


def test_exec_in_what_does_not_run_is_an_error(provision: Provision) -> None:
    target = provision()
    with pytest.raises(TargetError):
        target.exec(Command(argv=("/bin/busybox", "true")))
    target.start()
    target.stop()
    with pytest.raises(TargetError):
        target.exec(Command(argv=("/bin/busybox", "true")))


def test_exec_that_takes_too_long_is_killed(started: Target) -> None:
    count = "/bin/busybox ps | /bin/busybox grep -c '[s]leep 98765'; true"
    with pytest.raises(TargetTimeout):
        started.exec(Command(argv=("/bin/busybox", "sleep", "98765"), timeout_ns=2_000_000_000))
    assert eventually(lambda: shell(started, count) == "0")


def test_each_target_is_fresh(provision: Provision) -> None:
    first = provision()
    first.start()
    shell(first, "echo one > /only-mine")
    first.destroy()
    second = provision()
    second.start()
    assert shell(second, "/bin/busybox ls /only-mine 2>/dev/null || echo none") == "none"


def test_stop_and_destroy_may_be_called_twice_and_leave_nothing(
    provision: Provision, marks: list[tuple[MarkName, int]], paths: Paths
) -> None:
    target = provision()
    target.start()
    footprint = target.footprint()
    target.stop()
    target.stop()
    assert [name for name, _ in marks].count(MarkName.GONE) == 1
    target.destroy()
    target.destroy()
    name = target.spec.name
    assert not [pid for pid in (*footprint.pids, *footprint.helper_pids) if _runs(pid)]
    assert not [directory for directory in footprint.cgroups if os.path.exists(directory.path)]
    assert not [point for point in snapshots.mount_points_below(paths.root) if name in point]
    assert not [path for path, *_ in os.walk(paths.containers) if name in path]
    assert not [path for path, *_ in os.walk(paths.guests) if name in path]


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_service_answers_at_its_endpoint(provision: Provision) -> None:
    target = provision(command=SERVICE, network=NetworkMode.BRIDGE, service_port=8080)
    assert isinstance(target, Reachable)
    target.start()
    endpoint = target.endpoint()
    assert eventually(lambda: _fetch(endpoint.host, endpoint.port) == b"hello\n")
    links = target.footprint().links
    target.destroy()
    assert eventually(lambda: not any(os.path.exists(f"/sys/class/net/{link}") for link in links))


def _fetch(host: str, port: int) -> bytes:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    except OSError:
        return b""
    finally:
        connection.close()


def test_a_paused_target_stands_still_and_goes_on(provision: Provision) -> None:
    target = provision()
    if not isinstance(target, Pausable):
        pytest.skip("this arm cannot be paused")
    target.start()
    shell(target, "(while true; do :; done) >/dev/null 2>&1 &")
    target.pause()
    busy_ns = _cpu_ns(target)
    time.sleep(0.3)  # the time in which nothing may happen
    # a VMM's own main loop may turn over; the payload, which never rests, would take fifty times as much
    assert _cpu_ns(target) - busy_ns < _STANDSTILL_NS
    target.resume()
    assert eventually(lambda: _cpu_ns(target) - busy_ns > _STANDSTILL_NS)


def _cpu_ns(target: Target) -> int:
    ticks = 0
    for pid in target.footprint().pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                ticks += int(file.read().split()[0])
    return ticks
