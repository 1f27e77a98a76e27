"""A container's start as a script of raw system calls for ``engine_floor.c``: the plan's own steps, and nothing else.

Made from the very plan that the engine sends to its spawner, so that what is compared stays the same when the plan
changes; a step that is not known here fails the benchmark.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lab.container import init_plan
from lab.container.network import fastpath
from lab.container.network.model import Attachment
from lab.container.runtime import StartPlan
from lab.linux import capabilities as caps
from lab.linux import mount as m
from lab.linux import namespaces as ns
from lab.linux import prctl, rtnetlink
from lab.linux.cgroup import layout as cgroup

_INDEX_MARK = 0x7EADBEEF
_NETNS = 90
_BORN_IN = 12  # a register
_ANSWER_BYTES = 8192

Word = int | str | bytes | None | tuple[str, ...]


class Register(int):
    """The number of a register in which the result of an earlier call is."""


def script(plan: StartPlan, *, layout: cgroup.CgroupLayout, attachment: Attachment | None, filter_file: Path) -> str:
    """Return the script of one start; ``filter_file`` is where its system call filter is put."""
    lines = [*_before(plan, layout), *_stdio()]
    if attachment is not None:
        lines += _spawner(attachment)
    for op in plan.ops:
        if op.name == "install_seccomp":
            lines += _seccomp(op, filter_file)
        elif op.name == "connect_network":
            assert attachment is not None
            lines += _connect_network(attachment)
        else:
            lines += _CHILD[op.name](*op.arguments)
    return "\n".join(lines) + "\n"


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
        case str():
            return f"s{word}"
    return "\t".join(f"a{each}" for each in word)


def _child(name: str, *words: Word, keep: int | None = None) -> str:
    return _line("child", name, *words, keep=keep)


def _before(plan: StartPlan, layout: cgroup.CgroupLayout) -> Iterator[str]:
    for hierarchy in layout.select((*plan.controllers, "")):
        yield _line("before", "mkdir", hierarchy.directory(plan.cgroup_path), 0o755)
    for planned in plan.writes:
        hierarchy = layout.hierarchy(planned.controller)
        assert hierarchy is not None
        yield from _write("before", os.path.join(hierarchy.directory(plan.cgroup_path), planned.file), planned.value)
    unified = layout.hierarchy("")
    if unified is None:
        yield _line("before", "clone", plan.flags)
    else:
        yield _line("before", "open", unified.directory(plan.cgroup_path), os.O_RDONLY | os.O_CLOEXEC, keep=_BORN_IN)
        yield _line("before", "clone", plan.flags | ns.CLONE_INTO_CGROUP, Register(_BORN_IN))


def _write(section: str, path: str, value: str) -> Iterator[str]:
    yield _line(section, "open", path, os.O_WRONLY | os.O_CLOEXEC, keep=0)
    yield _line(section, "write", Register(0), value.encode(), len(value))
    yield _line(section, "close", Register(0))


def _spawner(attachment: Attachment) -> Iterator[str]:
    with_bridge = _encoded((fastpath._new_veth(attachment, _bridge_index(attachment), _NETNS),))
    yield _line("spawner", "netns", _NETNS)
    yield from _netlink("spawner", with_bridge, answers=1)


def _bridge_index(attachment: Attachment) -> int:
    return int(Path(f"/sys/class/net/{attachment.bridge}/ifindex").read_text())


def _encoded(requests: Sequence[rtnetlink.Request]) -> bytes:
    return b"".join(rtnetlink._encode(request, number) for number, request in enumerate(requests))


def _netlink(section: str, data: bytes, *, answers: int, ask: bytes = b"") -> Iterator[str]:
    yield _line(section, "socket", 16, 3 | 0o2000000, 0, keep=1)
    if ask:
        yield _line(section, "ifindex", Register(1), ask)
    yield _line(section, "sendto", Register(1), data, len(data), 0, None, 0)
    for _ in range(answers):
        yield f"{section}\trecvfrom\tr1\tz{_ANSWER_BYTES}\ti{_ANSWER_BYTES}\ti0\t-\t-"
    yield _line(section, "close", Register(1))


# -- what the child does: one function per operation of a plan ---------------------------------------------------------


def _stdio() -> Iterator[str]:
    yield _child("open", "/dev/null", os.O_RDWR | os.O_CLOEXEC, keep=4)
    yield from (_child("dup3", Register(4), number, 0) for number in range(3))
    yield _child("close_range", 3, 0x7FFFFFFF, 4)


def _mark(_: str) -> Iterator[str]:
    yield from ()


def _join_cgroups(task_files: tuple[str, ...]) -> Iterator[str]:
    for path in task_files:
        yield from _write("child", path, "0")


def _mount_overlay(lower: tuple[str, ...], upper: str, work: str, target: str, volatile: bool) -> Iterator[str]:
    yield _child("fsopen", "overlay", m.FSOPEN_CLOEXEC, keep=2)
    pairs = [("lowerdir+", each) for each in lower] + [("upperdir", upper), ("workdir", work)]
    for key, value in pairs:
        yield _child("fsconfig", Register(2), m.FSCONFIG_SET_STRING, key, value, 0)
    if volatile:
        yield _child("fsconfig", Register(2), m.FSCONFIG_SET_FLAG, "volatile", None, 0)
    yield _child("fsconfig", Register(2), m.FSCONFIG_CMD_CREATE, None, None, 0)
    yield _child("fsmount", Register(2), m.FSMOUNT_CLOEXEC, 0, keep=3)
    yield _child("move_mount", Register(3), "", m.AT_FDCWD, target, m.MOVE_MOUNT_F_EMPTY_PATH)
    yield _child("close", Register(3))
    yield _child("close", Register(2))


def _pivot(target: str) -> Iterator[str]:
    yield _child("chdir", target)
    yield _child("pivot_root", ".", ".")
    yield _child("umount2", ".", m.MNT_DETACH)
    yield _child("chdir", "/")


def _mount_filesystem(fstype: str, source: str, target: str, flags: int, data: str) -> Iterator[str]:
    if target.startswith("/sys/fs/cgroup/"):  # on a tmpfs that is still empty
        yield _child("mkdir", target, 0o755)
    yield _child("mount", source or None, target, fstype, flags, data or None)


def _make_device(path: str, major: int, minor: int) -> Iterator[str]:
    yield _child("mknod", path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    yield _child("chmod", path, 0o666)


def _make_directory(path: str, mode: int) -> Iterator[str]:
    yield _child("mkdir", path, mode)
    yield _child("chmod", path, mode)


def _mask(path: str) -> Iterator[str]:
    # The container's /proc and /sys have what the host's have.
    yield f"child\tstat?\ts{path}\tz256"
    if os.path.isdir(path):
        yield _child("mount", "tmpfs", path, "tmpfs", m.MS_RDONLY, "size=0k")
    elif os.path.exists(path):
        yield _child("mount", "/dev/null", path, None, m.MS_BIND, None)


def _set_read_only(path: str, flags: int) -> str:
    return _child("mount_setattr", m.AT_FDCWD, path, flags, struct.pack("=QQQQ", m.MOUNT_ATTR_RDONLY, 0, 0, 0), 32)


def _make_read_only(path: str) -> Iterator[str]:
    yield _child("mount?", path, path, None, m.MS_BIND | m.MS_REC, None)
    if os.path.exists(path):
        yield _set_read_only(path, m.AT_RECURSIVE)


def _raise_loopback() -> Iterator[str]:
    yield _child("socket", 2, 2 | 0o2000000, 0, keep=1)
    yield _child("ioctl", Register(1), fastpath._SIOCSIFFLAGS, fastpath._IFREQ.pack(b"lo", rtnetlink.IFF_UP))
    yield _child("close", Register(1))


def _connect_network(attachment: Attachment) -> Iterator[str]:
    yield "child\tgo"
    requests = (fastpath._up(1, "lo"), *fastpath._inner_requests(attachment, _INDEX_MARK))
    body = rtnetlink.ifinfomsg() + rtnetlink.attribute(rtnetlink.IFLA_IFNAME, rtnetlink.text("eth0"))
    ask = rtnetlink.Request(rtnetlink.RTM_GETLINK, rtnetlink.NLM_F_REQUEST, body, "eth0")
    yield from _netlink("child", _encoded(requests), answers=len(requests), ask=_encoded((ask,)))


def _seccomp(op: init_plan.InitOp, filter_file: Path) -> Iterator[str]:
    (program,) = op.arguments
    assert isinstance(program, bytes)
    filter_file.write_bytes(program)
    yield f"child\tseccomp\ti1\ti4\tp{filter_file}"


def _drop_bounding(bits: int) -> Iterator[str]:
    for number in range(bits.bit_length()):
        if bits >> number & 1:
            yield _child("prctl", prctl.PR_CAPBSET_DROP, number)


def _set_user(uid: int, gid: int, _groups: tuple[int, ...], umask: int) -> Iterator[str]:
    yield _child("setgroups", 0, None)
    yield _child("setresgid", gid, gid, gid)
    yield _child("setresuid", uid, uid, uid)
    yield _child("umask", umask)


def _set_capabilities(effective: int, permitted: int, inheritable: int, ambient: int) -> Iterator[str]:
    sets = (effective, permitted, inheritable)
    words = [bits & 0xFFFFFFFF for bits in sets] + [bits >> 32 for bits in sets]
    yield _child("capset", struct.pack("=Ii", caps._VERSION_3, 0), struct.pack("=6I", *words))
    yield _child("prctl", caps.PR_CAP_AMBIENT, caps.PR_CAP_AMBIENT_CLEAR_ALL)
    assert not ambient


def _execute(arguments: tuple[str, ...], environment: tuple[str, ...]) -> Iterator[str]:
    yield "child\texecve\t" + "\t".join([_word(arguments[0]), _word(arguments), "-", _word(environment)])


_CHILD: dict[str, Callable[..., Iterator[str]]] = {
    "mark": _mark,
    "join_cgroups": _join_cgroups,
    "unshare_cgroup": lambda: iter((_child("unshare", ns.CLONE_NEWCGROUP),)),
    "await_limits": lambda _: iter(()),
    "new_session": lambda: iter((_child("setsid"),)),
    "make_mounts_private": lambda: iter((_child("mount", None, "/", None, m.MS_REC | m.MS_PRIVATE, None),)),
    "mount_overlay": _mount_overlay,
    "pivot": _pivot,
    "mount_filesystem": _mount_filesystem,
    "make_device": _make_device,
    "make_symlink": lambda target, path: iter((_child("symlink", target, path),)),
    "make_directory": _make_directory,
    "mask": _mask,
    "make_read_only": _make_read_only,
    "set_mount_read_only": lambda path: iter((_set_read_only(path, 0),)),
    "set_hostname": lambda name: iter((_child("sethostname", name, len(name)),)),
    "raise_loopback": _raise_loopback,
    "set_no_new_privileges": lambda: iter((_child("prctl", prctl.PR_SET_NO_NEW_PRIVS, 1),)),
    "drop_bounding": _drop_bounding,
    "set_user": _set_user,
    "set_capabilities": _set_capabilities,
    "die_with_spawner": lambda: iter((_child("prctl", prctl.PR_SET_PDEATHSIG, 9),)),
    "require_directories": lambda paths: (f"child\tstat?\ts{path}\tz256" for path in paths),
    "change_directory": lambda path: iter((_child("chdir", path), "child\tgetcwd\tz256\ti256")),
    "execute": _execute,
}
