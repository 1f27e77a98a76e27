"""Steps as programs of system calls: their shape, their assembly, and the two that carry them out."""

from __future__ import annotations

import marshal
import os
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.container import assembler, child, compiled, init, init_calls, init_ops, init_plan, machine
from lab.container import program as p
from lab.container.init_plan import InitOp
from lab.container.interpreter import Interpreter
from lab.linux.libc import SYSCALL_NUMBERS

OVERLAY = (("/l/1", "/l/2"), "/c/upper", "/c/work", "/c/rootfs", True)
NEEDS_COMPILER = pytest.mark.skipif(shutil.which("cc") is None, reason="the machine is compiled: install gcc")


def _steps(*ops: InitOp) -> tuple[assembler.Step, ...]:
    return tuple((op.name, op.arguments) for op in ops)


def test_every_call_of_every_step_has_a_number_here() -> None:
    arguments: dict[str, tuple[object, ...]] = {"mount_overlay": OVERLAY, "set_user": (5, 6, (7,), 0o22)}
    program = [instruction for name, given_ in arguments.items() for instruction in init_calls.PROGRAMS[name](*given_)]
    program += init_calls.execute(("sh", "-c"), ("PATH=/a:/b",), True)
    calls = [instruction[0] for instruction in program if instruction[4].call == instruction[0]]
    operations = {p.LOAD, p.FAIL, p.SKIP_UNLESS, p.EXECUTING, p.FIND_HOME, p.MAKE_DESTINATION, p.EXCHANGE}
    assert set(calls) - operations <= set(SYSCALL_NUMBERS)
    assert len(calls) > 10


def test_a_plan_with_a_step_of_another_kind_is_not_assembled() -> None:
    other, name = (
        InitOp.of(init_ops.open_bind_of, 200, 1, 1, "/x"),
        InitOp.of(init_calls.set_hostname, "web"),
    )
    assert assembler.assemble(_steps(name)) is not None
    assert assembler.assemble(_steps(name, other)) is None


def test_what_a_failure_means_is_found_by_its_instruction() -> None:
    ops = (InitOp(init.MARK, ("namespaces",)), InitOp.of(init_calls.set_hostname, "web"))
    assembled = assembler.assemble(_steps(*ops))
    assert assembled is not None
    table = marshal.dumps(assembled[1])
    told = struct.pack("=Ii", 1, 1) + b"\0"
    frames = bytearray(init.FRAME.pack(b"n", 7) + init.FRAME.pack(init.MACHINE_FAILED, len(told)) + told)
    marks, failure = child.parse_frames(frames, table)
    assert marks == [(b"n", 7)]
    assert failure == ("set_hostname", 1, "sethostname: Operation not permitted", "web")


def test_words_and_path_of_a_failure_come_before_what_was_planned() -> None:
    assembled = assembler.assemble(_steps(InitOp.of(init_calls.connect_network, 198)))
    assert assembled is not None
    told = struct.pack("=Ii", 0, 17) + b"taken\0address 10.0.0.2 on eth0"
    frames = bytearray(init.FRAME.pack(init.MACHINE_FAILED, len(told)) + told)
    _, failure = child.parse_frames(frames, marshal.dumps(assembled[1]))
    assert failure == ("connect_network", 17, "File exists (taken)", "address 10.0.0.2 on eth0")


def test_equal_memory_is_in_a_program_once_and_pointers_are_relocated() -> None:
    long = "x" * 1000
    once = assembler.assemble(_steps(InitOp.of(init_calls.set_hostname, long)))
    twice = assembler.assemble(_steps(*[InitOp.of(init_calls.set_hostname, long)] * 2))
    assert once is not None
    assert twice is not None
    assert len(twice[0]) - len(once[0]) < 200
    ended = assembler.assemble(_steps(InitOp.of(init_calls.execute, ("/bin/sh", "-c", "x"), ("A=b",))))
    assert ended is not None
    instructions, relocations, places, data = struct.unpack_from("=4I", ended[0])
    assert (instructions, relocations) == (len(ended[1]), 4)
    assert places < data < len(ended[0])


@given(mode=st.sampled_from([0, 0o040755, 0o100644, 0o010600]), found=st.sampled_from([0, -2]))
def test_what_depends_on_a_mode_is_carried_out_for_that_mode_only(mode: int, found: int) -> None:
    seen: list[str] = []

    def told(name: str) -> list[p.Instruction]:
        return [p.fail(1, name, "")]

    def nested() -> Iterable[p.Instruction]:
        yield p.load(0, 0, 4, keep=1)
        yield p.load(0, 4, 4, keep=2)
        inner = (
            *p.is_format(1, p.DIRECTORY, told("directory")),
            *p.is_other_format(1, p.DIRECTORY, told("other")),
        )
        yield from p.when(2, found & 0xFFFFFFFF, inner)
        yield from told("skipped")

    interpreter = Interpreter(lambda: None)
    interpreter._buffers[0][:8] = struct.pack("=Ii", mode, 0)
    try:
        interpreter.carry_out(nested())
    except OSError as error:
        seen.append(str(error.strerror))
    assert seen == [("directory" if mode == 0o040755 else "other") if found == 0 else "skipped"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> machine.Start:
    return machine.load(compiled.machine(str(tmp_path_factory.mktemp("cache"))))


def _outcome(start: machine.Start, *ops: InitOp) -> tuple[bytes, int]:
    """Have a child carry steps out; what it wrote to its output and status pipe, and its exit code."""
    assembled = assembler.assemble(_steps(*ops))
    assert assembled is not None
    read_end, write_end = os.pipe()
    pid, pidfd = start(assembled[0], 0, -1, (0, write_end, 2), write_end)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        written = pipe.read()
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    return written, os.waitstatus_to_exitcode(status)


@NEEDS_COMPILER
def test_the_machine_executes_with_arguments_environment_and_home(start: machine.Start) -> None:
    script = 'printf "%s|" "$0" "$A" "$HOME"; exit 7'
    execute = InitOp.of(init_calls.execute, ("sh", "-c", script), ("PATH=/nowhere:/bin", "A=b c"), True)
    written, code = _outcome(start, execute)
    assert code == 7
    assert written.endswith(f"sh|b c|{os.path.expanduser(f'~{os.getuid()}') if os.getuid() else '/root'}|".encode())
    assert written[:1] == init.EXECUTING


@NEEDS_COMPILER
def test_the_machine_says_which_instruction_failed(start: machine.Start) -> None:
    written, code = _outcome(start, InitOp.of(init_calls.change_directory, "/no/such"))
    assert code == 125
    assert child.parse_frames(bytearray(written), marshal.dumps((("change_directory", "", {}, "/no/such"),)))[1] == (
        "change_directory",
        2,
        "No such file or directory",
        "/no/such",
    )


NAMES = st.sampled_from(["a", "b", "link", "loop"])
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
"""Destinations are normal paths; where links lead to may go up first."""
TARGETS = st.tuples(st.sampled_from(["", "./", "../", "../../"]), PATHS).map("".join)


@NEEDS_COMPILER
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    directories=st.lists(PATHS, max_size=3),
    links=st.dictionaries(st.sampled_from(["link", "a/link", "b/link"]), TARGETS, max_size=3),
    path=PATHS,
    is_directory=st.booleans(),
)
def test_both_make_the_same_destinations(
    start: machine.Start,
    tmp_path_factory: pytest.TempPathFactory,
    directories: list[str],
    links: dict[str, str],
    path: str,
    is_directory: bool,
) -> None:
    roots = [tmp_path_factory.mktemp("outer") / "deep/enough/root" for _ in range(2)]
    for root in roots:
        _lay_out(root, directories, links)
    wanted = [f"{root}/{path}" for root in roots]
    by_machine = _make(start, wanted[0], is_directory=is_directory)
    in_python = _make_in_python(wanted[1], is_directory=is_directory)
    assert by_machine == in_python
    assert by_machine == "failed" or _tree(roots[0]) == _tree(roots[1])


def _lay_out(root: Path, directories: list[str], links: dict[str, str]) -> None:
    root.mkdir(parents=True)
    (root / "loop").symlink_to("loop")
    for directory in directories:
        parts = [part for part in directory.split("/") if part in ("a", "b")]
        (root / "/".join(parts)).mkdir(parents=True, exist_ok=True)
    for link, target in links.items():
        if (root / link).parent.is_dir():
            (root / link).symlink_to(target)


def _make(start: machine.Start, path: str, *, is_directory: bool) -> str:
    program = [p.operation(p.MAKE_DESTINATION, path, int(is_directory), path=path), p.fail(0, "", "")]
    read_end, write_end = os.pipe()
    pid, pidfd = start(assembler.program(program), 0, -1, (0, 1, 2), write_end)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    os.close(pidfd)
    _, errno = struct.unpack_from("=Ii", told, init.FRAME.size)
    return "ok" if errno == 0 else "failed"


def _make_in_python(path: str, *, is_directory: bool) -> str:
    try:
        Interpreter(lambda: None).carry_out([p.operation(p.MAKE_DESTINATION, path, int(is_directory), path=path)])
    except OSError:
        return "failed"
    return "ok"


def _tree(root: Path) -> list[str]:
    top = root.parent.parent.parent
    return sorted(f"{each.relative_to(top)} {each.is_dir()}" for each in top.rglob("*"))


def test_all_steps_of_a_plan_are_known() -> None:
    assert set(init_calls.PROGRAMS) < set(init_ops.OPERATIONS)
    assert init_plan.InitOp.of(init_calls.new_session).name in init_calls.PROGRAMS


def test_the_machine_and_python_know_the_same_numbers() -> None:
    source = (Path(machine.__file__).with_name("machine.c")).read_text()
    assert f"STATUS_NUMBER = {init.STATUS_NUMBER}, LAST_NUMBER = {init.LAST_NUMBER}" in source
    assert f"BUFFER_BYTES = {p.BUFFER_BYTES}" in source
    operations = ", ".join(name.upper() for name in assembler.OPERATIONS).replace("CALL,", "SYSCALL,", 1)
    assert f"enum {{ {operations} }};" in " ".join(source.split())
