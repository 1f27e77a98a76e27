"""A seccomp profile in the standard JSON format -> BPF, compiled once and cached.

The default profile has the meaning of docker's: what is not allowed gets EPERM, some calls need a capability that
the container has. Compiling takes milliseconds, so the program is kept by a digest of all that it depends on.
Source: docs.docker.com/engine/security/seccomp, opencontainers/runtime-spec config-linux.md "Seccomp".
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.errors import SpecError, UnavailableError
from lab.linux import seccomp
from lab.linux.libc import MACHINE

_FORMAT = 5
"""Raised when the compiler below changes what it makes of the same profile."""

_ACTIONS = {
    "SCMP_ACT_ALLOW": seccomp.SCMP_ACT_ALLOW,
    "SCMP_ACT_ERRNO": seccomp.SCMP_ACT_ERRNO,
    "SCMP_ACT_KILL": seccomp.SCMP_ACT_KILL,
    "SCMP_ACT_KILL_THREAD": seccomp.SCMP_ACT_KILL,
    "SCMP_ACT_KILL_PROCESS": seccomp.SCMP_ACT_KILL_PROCESS,
    "SCMP_ACT_TRAP": seccomp.SCMP_ACT_TRAP,
    "SCMP_ACT_TRACE": seccomp.SCMP_ACT_TRACE,
    "SCMP_ACT_LOG": seccomp.SCMP_ACT_LOG,
}
_COMPARISONS = {
    "SCMP_CMP_NE": seccomp.SCMP_CMP_NE,
    "SCMP_CMP_LT": seccomp.SCMP_CMP_LT,
    "SCMP_CMP_LE": seccomp.SCMP_CMP_LE,
    "SCMP_CMP_EQ": seccomp.SCMP_CMP_EQ,
    "SCMP_CMP_GE": seccomp.SCMP_CMP_GE,
    "SCMP_CMP_GT": seccomp.SCMP_CMP_GT,
    "SCMP_CMP_MASKED_EQ": seccomp.SCMP_CMP_MASKED_EQ,
}
_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # the format names machines as Go does
_NATIVE = {"x86_64": "x86_64", "aarch64": "aarch64"}  # a machine's own architecture, as libseccomp names it
_AUDIT = {"x86_64": 0xC000003E, "x86": 0x40000003, "x32": 0xC000003E, "aarch64": 0xC00000B7, "arm": 0x40000028}
_X32_BIT = 0x40000000
_WITH_NUMBER = frozenset(("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"))
_PERMISSIVE = frozenset((seccomp.SCMP_ACT_ALLOW, seccomp.SCMP_ACT_LOG))
_ACTION_BITS = 0xFFFF0000
_ENOSYS, _EPERM = 38, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a profile's conditions may ask of the host."""

    machine: str
    kernel: tuple[int, int]

    @classmethod
    def here(cls) -> Host:
        """Return this host."""
        numbers = [int(number) for number in re.findall(r"\d+", os.uname().release)[:2]]
        return cls(machine=MACHINE, kernel=(numbers[0], numbers[1]))


@dataclass(frozen=True, slots=True)
class Rule:
    """One call under one condition: an SCMP action, and comparisons (index, operator, value, second value)."""

    name: str
    action: int
    comparisons: tuple[tuple[int, int, int, int], ...]


def default_profile() -> str:
    """Return the text of the default profile."""
    with open(os.path.join(os.path.dirname(__file__), "seccomp-default.json"), encoding="utf-8") as file:
        return file.read()


def select(profile: Mapping[str, Any], capabilities: frozenset[str], host: Host) -> tuple[Rule, ...]:  # Any: JSON
    """Return the rules of a profile that hold for a container with ``capabilities`` on ``host``; pure.

    All comparisons of a rule must hold; where the profile has several about the same argument, which libseccomp does
    not take, each becomes a rule of its own, as in every OCI runtime.

    Raises:
        KeyError: the profile names an action or a comparison that the format does not have.
        ValueError: it says something twice that can be said once.
    """
    rules: list[Rule] = []
    for entry in profile.get("syscalls") or ():
        if not _holds(entry, capabilities, host):
            continue
        action = _action(entry["action"], entry.get("errnoRet"))
        for comparisons in _alternatives(tuple(_comparison(argument) for argument in entry.get("args") or ())):
            rules += [Rule(name, action, comparisons) for name in _names(entry)]
    return tuple(rules)


Comparisons = tuple[tuple[int, int, int, int], ...]


def _alternatives(comparisons: Comparisons) -> tuple[Comparisons, ...]:
    indexes = [comparison[0] for comparison in comparisons]
    return (comparisons,) if len(set(indexes)) == len(indexes) else tuple((each,) for each in comparisons)


def _names(entry: Mapping[str, Any]) -> tuple[str, ...]:  # Any: JSON
    if entry.get("name") and entry.get("names"):
        raise ValueError("'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'")
    return (entry["name"],) if entry.get("name") else tuple(entry["names"])


def _action(name: str, number: int | None) -> int:
    return _ACTIONS[name] | (_EPERM if number is None else number) if name in _WITH_NUMBER else _ACTIONS[name]


def _comparison(argument: Mapping[str, Any]) -> tuple[int, int, int, int]:  # Any: JSON
    return (argument["index"], _COMPARISONS[argument["op"]], argument["value"], argument.get("valueTwo", 0))


def _holds(entry: Mapping[str, Any], capabilities: frozenset[str], host: Host) -> bool:  # Any: JSON
    wanted, unwanted = entry.get("includes") or {}, entry.get("excludes") or {}
    architecture = _GO_ARCHITECTURES.get(host.machine, host.machine)
    return (
        set(wanted.get("caps") or ()) <= capabilities
        and not set(unwanted.get("caps") or ()) & capabilities
        and architecture in (wanted.get("arches") or (architecture,))
        and architecture not in (unwanted.get("arches") or ())
        and _version(wanted.get("minKernel") or "0.0") <= host.kernel
        and not ("minKernel" in unwanted and _version(unwanted["minKernel"]) <= host.kernel)
    )


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def load(profile: str, capabilities: frozenset[str], *, cache: str) -> bytes:
    """Return the BPF of a profile's text for a container with ``capabilities``, compiled now or found in ``cache``.

    Raises:
        SpecError: the text is not a profile.
        UnavailableError: libseccomp is not installed, or cannot compile it.
    """
    host = Host.here()
    key = repr((_FORMAT, profile, sorted(capabilities), host, _library_identity()))
    path = os.path.join(cache, "seccomp", hashlib.sha256(key.encode()).hexdigest() + ".bpf")
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        program = compile_profile(profile, capabilities, host)
    _store(path, program)
    return program


def _library_identity() -> tuple[int, int] | str:
    # The version number alone would load the library; its file is as good a witness, and costs one stat.
    for directory in (f"/usr/lib/{MACHINE}-linux-gnu", "/usr/lib64", "/usr/lib", "/lib"):
        try:
            status = os.stat(f"{directory}/libseccomp.so.2")
        except FileNotFoundError:
            continue
        return (status.st_mtime_ns, status.st_size)
    return "unknown"


def _store(path: str, program: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.{threading.get_ident()}"
    with open(temporary, "wb") as file:
        file.write(program)
    os.replace(temporary, path)


def compile_profile(profile: str, capabilities: frozenset[str], host: Host) -> bytes:
    """Return the BPF of a profile's text; what it raises is said at ``load``."""
    try:
        document = json.loads(profile)
        rules = select(document, capabilities, host)
        default = _action(document["defaultAction"], document.get("defaultErrnoRet"))
        extra = tuple(_extra_architectures(document, host))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SpecError(f"not a seccomp profile: {error if isinstance(error, ValueError) else repr(error)}") from error
    try:
        return _compile(default, rules, extra, host)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise SpecError(f"not a seccomp profile: {error}") from error
        raise UnavailableError(
            f"cannot compile the seccomp profile: {error}", hint="install libseccomp2: apt-get install libseccomp2"
        ) from error


def _extra_architectures(document: Mapping[str, Any], host: Host) -> Iterator[str]:  # Any: JSON
    """Yield the architectures that the rules hold for beside the machine's own, in libseccomp's spelling."""
    listed, mapped = document.get("architectures") or (), document.get("archMap") or ()
    if listed and mapped:
        raise ValueError(
            "'architectures' and 'archMap' were specified in the seccomp profile, "
            "use either 'architectures' or 'archMap'"
        )
    native = _NATIVE.get(host.machine, host.machine)
    for entry in mapped:
        if _library_name(entry["architecture"]) == native:
            listed = entry.get("subArchitectures") or ()
    yield from (name for name in map(_library_name, listed) if name != native)


def _library_name(architecture: str) -> str:
    return architecture.removeprefix("SCMP_ARCH_").lower()


def _compile(default: int, rules: tuple[Rule, ...], architectures: tuple[str, ...], host: Host) -> bytes:
    building = seccomp.Filter(default)
    try:
        for name in architectures:
            building.add_architecture(name)
        for rule in rules:
            number = building.resolve(rule.name)
            # a call that this libseccomp does not know yet has no number, and libseccomp refuses a rule that says
            # what happens anyway
            if number is not None and rule.action != default:
                building.add_rule(rule.action, number, rule.comparisons)
        newest = _newest(building, rules, (_NATIVE.get(host.machine, ""), *architectures))
        return (unknown_to_enosys(newest) if _refuses_unknown(default) else b"") + building.export()
    finally:
        building.close()


def _refuses_unknown(default: int) -> bool:
    allows = default in _PERMISSIVE or default & _ACTION_BITS == seccomp.SCMP_ACT_TRACE
    return not allows and default != seccomp.SCMP_ACT_ERRNO | _ENOSYS


def _newest(building: seccomp.Filter, rules: tuple[Rule, ...], architectures: tuple[str, ...]) -> dict[str, int]:
    """Return the highest number that the rules speak of, for each architecture that we know how to tell."""
    names = {rule.name for rule in rules}
    known = (each for each in architectures if each in _AUDIT)
    numbers = {each: [building.resolve_for(each, name) for name in names] for each in known}
    found = {each: [number for number in all_ if number is not None] for each, all_ in numbers.items()}
    return {each: max(all_) for each, all_ in found.items() if all_}


def unknown_to_enosys(newest: Mapping[str, int]) -> bytes:
    """Return BPF that answers ENOSYS to calls above ``newest`` of their architecture, and falls through for others.

    EPERM would tell a C library that a call exists and is forbidden, so that it would not fall back to an older one.
    Source: opencontainers/runc's reasoning for the same; linux/bpf_common.h for the encoding.
    """
    return b"".join(_enosys_above(architecture, number) for architecture, number in newest.items())


def _enosys_above(architecture: str, number: int) -> bytes:
    # x32 shares x86_64's mark; its calls have a bit of their own, and their numbers come with it
    load_word, jump_equal, jump_greater, jump_not_less, give = 0x20, 0x15, 0x25, 0x35, 0x06
    of_other_kind = (jump_not_less, 0, 2, _X32_BIT) if architecture == "x32" else (jump_not_less, 2, 0, _X32_BIT)
    return b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (load_word, 0, 0, 4),  # seccomp_data.arch
            (jump_equal, 0, 4, _AUDIT[architecture]),
            (load_word, 0, 0, 0),  # seccomp_data.nr
            of_other_kind,
            (jump_greater, 0, 1, number),
            (give, 0, 0, seccomp.SCMP_ACT_ERRNO | _ENOSYS),
        )
    )
