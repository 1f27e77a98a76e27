"""The ready byte, and the words for what comes instead of it: real pipes and programs, no target."""

from __future__ import annotations

import os
import time

import pytest

from lab.container.output import Drain
from lab.container.spawner_client import SpawnerDied
from lab.errors import TargetError, TargetTimeout, UnavailableError
from lab.target.backends.attached import Attached
from lab.target.backends.failures import cannot, no_endpoint, took_too_long
from lab.target.backends.main_output import MainOutput
from lab.target.spec import Command, MarkName, TargetSpec
from lab.units import NS_PER_S

SERVED = Command(argv=("/bin/serve", "x"))


class Rig:
    """A main output, and the marks that it gave."""

    def __init__(self, *, service_port: int | None = None, timeout_ns: int = 20 * NS_PER_S) -> None:
        self.marks: list[MarkName] = []
        self.spec = TargetSpec(
            name="n", image="i", command=SERVED, service_port=service_port, start_timeout_ns=timeout_ns
        )
        self.output = MainOutput("arm", self.spec, lambda name, _at_ns: self.marks.append(name), Drain())

    def run(self, script: str) -> Attached:
        program = Attached(("sh", "-c", script), self.output)
        try:
            program.await_ready(time.monotonic_ns() + self.spec.start_timeout_ns)
        except TargetError:
            program.kill()
            raise
        return program


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_first_byte_means_ready(rig: Rig) -> None:
    program = rig.run("echo up; exec sleep 100")
    assert rig.marks == [MarkName.READY]
    assert program.is_alive()
    assert program.wait(time.monotonic_ns()) is None
    program.kill()
    assert not program.is_alive()


def test_what_ends_first_is_named_with_its_code_and_last_lines(rig: Rig) -> None:
    with pytest.raises(
        TargetError, match="/bin/serve ended with code 3 before it was ready; its last lines: no luck"
    ) as e:
        rig.run("echo no luck >&2; exit 3")
    assert (e.value.backend, e.value.phase, rig.marks) == ("arm", "start", [])


def test_what_it_said_is_shown_although_a_child_holds_its_errors_open(rig: Rig) -> None:
    with pytest.raises(TargetError, match="its last lines: no luck"):
        rig.run("sleep 1 >/dev/null & echo no luck >&2; exit 3")


def test_errors_beyond_a_pipes_size_keep_nobody_from_getting_ready(rig: Rig) -> None:
    program = rig.run("head -c 1048576 /dev/zero >&2; echo up")
    assert program.wait(time.monotonic_ns() + 20 * NS_PER_S) == 0


def test_what_only_closes_its_output_is_said_to(rig: Rig) -> None:
    rig = Rig(timeout_ns=NS_PER_S // 5)
    with pytest.raises(TargetError, match="/bin/serve closed its output before it was ready"):
        rig.run("exec >&-; exec sleep 100")


def test_what_says_nothing_in_time_is_a_timeout_with_the_time_and_the_last_lines() -> None:
    rig = Rig(timeout_ns=NS_PER_S // 2)
    with pytest.raises(TargetTimeout, match="no ready byte after 500 ms; its last lines: still loading"):
        rig.run("echo still loading >&2; exec sleep 100")


def test_a_service_is_not_waited_for() -> None:
    rig = Rig(service_port=80)
    program = rig.run("exec sleep 100")
    assert rig.marks == []
    program.kill()


def test_only_the_last_ten_lines_are_shown(rig: Rig) -> None:
    with pytest.raises(TargetError) as raised:
        rig.run("i=0; while [ $i -lt 50 ]; do echo line $i >&2; i=$((i+1)); done; exit 1")
    assert str(raised.value).endswith("line 48 | line 49")
    assert "line 39" not in str(raised.value)


def test_a_mebibyte_of_output_blocks_nobody(rig: Rig) -> None:
    program = rig.run("echo up; head -c 1048576 /dev/zero; exit 4")
    assert program.wait(time.monotonic_ns() + 20 * NS_PER_S) == 4


def test_a_second_start_does_not_repeat_what_the_first_wrote(rig: Rig) -> None:
    with pytest.raises(TargetError, match="first"):
        rig.run("echo first >&2; exit 1")
    with pytest.raises(TargetError) as raised:
        rig.run("echo second >&2; exit 1")
    assert "first" not in str(raised.value)


def test_a_program_that_is_not_there_leaves_no_descriptor(rig: Rig) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        Attached(("/no/such/program",), rig.output)
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_a_loss_while_waiting_for_the_end_is_told_as_the_failure(rig: Rig) -> None:
    def wait(deadline_ns: int) -> int | None:
        raise SpawnerDied("the spawner has ended")

    with rig.output.opened():
        pass  # nobody writes: the end of the output comes at once
    with pytest.raises(TargetError, match="the spawner has ended"):
        rig.output.await_ready(time.monotonic_ns() + NS_PER_S, wait)


def test_a_check_that_failed_passes_the_hint_on_or_gives_one() -> None:
    own = cannot(UnavailableError("no daemon", hint="start it"))
    assert (own.available, own.reason, own.hint) == (False, "no daemon", "start it")
    assert cannot(OSError(28, "No space left on device", "/x")).hint == "see `lab doctor`"
    assert cannot(UnavailableError("x"), hint="y").hint == "y"


def test_failures_that_every_arm_can_have_read_the_same() -> None:
    late = took_too_long(Command(argv=("sleep", "9"), timeout_ns=2 * NS_PER_S), backend="arm")
    assert str(late) == "arm: exec: sleep did not end within 2.00 s; it has been killed"
    assert str(no_endpoint("arm")).startswith("arm: endpoint: it has no network, no service")
