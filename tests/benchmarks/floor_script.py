"""The parent's side of a container's start as a script of raw system calls for ``engine_floor.c``, and nothing else.

Made from the very plan that the engine sends to its spawner, so that what is compared stays the same when the plan
changes; the child's side is that plan's own program.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.container import assembler
from lab.container.network import fastpath
from lab.container.network.model import Attachment
from lab.container.runtime import StartPlan
from lab.linux import namespaces as ns
from lab.linux import rtnetlink
from lab.linux.cgroup import layout as cgroup

_NETNS = 90
_BORN_IN = 12  # a register
_ANSWER_BYTES = 8192

Word = int | str | bytes | None


class Register(int):
    """The number of a register in which the result of an earlier call is."""


def script(plan: StartPlan, *, layout: cgroup.CgroupLayout, attachment: Attachment | None) -> str:
    """Return the script of one start."""
    lines = [*_before(plan, layout), *_limits(plan, layout)]
    if attachment is not None:
        lines += _network(attachment)
    return "\n".join(lines) + "\n"


def program(plan: StartPlan) -> bytes:
    """Return what the child carries out."""
    assembled = assembler.assemble((op.name, op.arguments) for op in plan.ops)
    assert assembled is not None
    return assembled[0]


def _line(section: str, name: str, *words: Word, keep: int | None = None) -> str:
    arguments = [_word(word) for word in words]
    return "\t".join([section, name, *arguments, *([] if keep is None else [f"={keep}"])])


def _word(word: Word) -> str:
    match word:
        case None:
            return "-"
        case Register():
            return f"r{int(word)}"
        case int():
            return f"i{word}"
        case bytes():
            return f"x{word.hex()}"
    return f"s{word}"


def _before(plan: StartPlan, layout: cgroup.CgroupLayout) -> Iterator[str]:
    unified = layout.hierarchy("")
    if unified is None:
        yield _line("before", "clone", plan.flags)
    else:
        yield _line("before", "mkdir", unified.directory(plan.cgroup_path), 0o755)
        yield _line("before", "open", unified.directory(plan.cgroup_path), os.O_RDONLY | os.O_CLOEXEC, keep=_BORN_IN)
        yield _line("before", "clone", plan.flags | ns.CLONE_INTO_CGROUP, Register(_BORN_IN))


def _limits(plan: StartPlan, layout: cgroup.CgroupLayout) -> Iterator[str]:
    for hierarchy in layout.select(plan.controllers):
        if hierarchy.version == 1:
            yield _line("limits", "mkdir", hierarchy.directory(plan.cgroup_path), 0o755)
    for planned in plan.writes:
        hierarchy_of_it = layout.hierarchy(planned.controller)
        assert hierarchy_of_it is not None
        path = os.path.join(hierarchy_of_it.directory(plan.cgroup_path), planned.file)
        yield from _write("limits", path, planned.value)


def _write(section: str, path: str, value: str) -> Iterator[str]:
    yield _line(section, "open", path, os.O_WRONLY | os.O_CLOEXEC, keep=0)
    yield _line(section, "write", Register(0), value.encode(), len(value))
    yield _line(section, "close", Register(0))


def _network(attachment: Attachment) -> Iterator[str]:
    with_bridge = _encoded((fastpath._new_veth(attachment, _bridge_index(attachment), _NETNS),))
    yield _line("network", "netns", _NETNS)
    yield _line("network", "socket", 16, 3 | 0o2000000, 0, keep=1)
    yield _line("network", "sendto", Register(1), with_bridge, len(with_bridge), 0, None, 0)
    yield f"network\trecvfrom\tr1\tz{_ANSWER_BYTES}\ti{_ANSWER_BYTES}\ti0\t-\t-"
    yield _line("network", "close", Register(1))
    yield _line("network", "go", fastpath.exchanges((attachment,)))


def _bridge_index(attachment: Attachment) -> int:
    return int(Path(f"/sys/class/net/{attachment.bridge}/ifindex").read_text())


def _encoded(requests: Sequence[rtnetlink.Request]) -> bytes:
    return b"".join(rtnetlink._encode(request, number) for number, request in enumerate(requests))
