"""A seccomp profile in the standard JSON format -> BPF, compiled once and cached.

The default profile has the meaning of docker's: what is not allowed gets EPERM, some calls need a capability that
the container has. Compiling takes milliseconds, so the program is kept by a digest of all that it depends on.
Source: docs.docker.com/engine/security/seccomp, opencontainers/runtime-spec config-linux.md "Seccomp".
"""

from __future__ import annotations

import hashlib
import importlib.resources
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

_FORMAT = 4
"""Raised when the compiler below changes what it makes of the same profile."""

_ACTIONS = {
    "SCMP_ACT_ALLOW": seccomp.SCMP_ACT_ALLOW,
    "SCMP_ACT_ERRNO": seccomp.SCMP_ACT_ERRNO,
    "SCMP_ACT_KILL": seccomp.SCMP_ACT_KILL,
    "SCMP_ACT_KILL_THREAD": seccomp.SCMP_ACT_KILL,
    "SCMP_ACT_KILL_PROCESS": seccomp.SCMP_ACT_KILL_PROCESS,
    "SCMP_ACT_TRAP": seccomp.SCMP_ACT_TRAP,
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
_NATIVE = {"x86_64": ("SCMP_ARCH_X86_64", 0xC000003E), "aarch64": ("SCMP_ARCH_AARCH64", 0xC00000B7)}
_X32_BIT = 0x40000000
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
    return importlib.resources.files("lab.container").joinpath("seccomp-default.json").read_text(encoding="utf-8")


def select(profile: Mapping[str, Any], capabilities: frozenset[str], host: Host) -> tuple[Rule, ...]:  # Any: JSON
    """Return the rules of a profile that hold for a container with ``capabilities`` on ``host``; pure.

    Raises:
        KeyError: the profile names an action or a comparison that the format does not have.
    """
    rules: list[Rule] = []
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    for entry in profile["syscalls"]:
        if not _holds(entry, capabilities, host):
            continue
        action = _action(entry["action"], entry.get("errnoRet"))
        comparisons = tuple(_comparison(argument) for argument in entry.get("args") or ())
        if action != default:  # libseccomp refuses a rule that says what happens anyway
            rules += [Rule(name, action, comparisons) for name in entry["names"]]
    return tuple(rules)


def _action(name: str, errno: int | None) -> int:
    action = _ACTIONS[name]
    return action | (_EPERM if errno is None else errno) if name == "SCMP_ACT_ERRNO" else action


def _comparison(argument: Mapping[str, Any]) -> tuple[int, int, int, int]:  # Any: JSON
    return (argument["index"], _COMPARISONS[argument["op"]], argument["value"], argument.get("valueTwo", 0))


def _holds(entry: Mapping[str, Any], capabilities: frozenset[str], host: Host) -> bool:  # Any: JSON
    wanted, unwanted = entry.get("includes") or {}, entry.get("excludes") or {}
    architecture = _GO_ARCHITECTURES.get(host.machine, host.machine)
    return (
        set(wanted.get("caps", ())) <= capabilities
        and not set(unwanted.get("caps", ())) & capabilities
        and architecture in wanted.get("arches", (architecture,))
        and architecture not in unwanted.get("arches", ())
        and _version(wanted.get("minKernel", "0.0")) <= host.kernel
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
        raise SpecError(f"not a seccomp profile: {error!r}") from error
    try:
        return _compile(default, rules, extra, host)
    except OSError as error:
        raise UnavailableError(
            f"cannot compile the seccomp profile: {error}", hint="install libseccomp2: apt-get install libseccomp2"
        ) from error


def _extra_architectures(document: Mapping[str, Any], host: Host) -> Iterator[str]:  # Any: JSON
    native = _NATIVE.get(host.machine, ("", 0))[0]
    for entry in document.get("archMap") or ():
        if entry["architecture"] == native:
            yield from (name.removeprefix("SCMP_ARCH_").lower() for name in entry.get("subArchitectures") or ())


def _compile(default: int, rules: tuple[Rule, ...], architectures: tuple[str, ...], host: Host) -> bytes:
    building = seccomp.Filter(default)
    try:
        for name in architectures:
            building.add_architecture(name)
        newest = 0
        for rule in rules:
            number = building.resolve(rule.name)
            if number is None:
                continue  # a call that this libseccomp does not know yet, or this machine does not have
            newest = max(newest, number)
            building.add_rule(rule.action, number, rule.comparisons)
        return unknown_to_enosys(newest, host.machine) + building.export()
    finally:
        building.close()


def unknown_to_enosys(newest: int, machine: str) -> bytes:
    """Return BPF that answers ENOSYS to native calls newer than ``newest``, and falls through for all others.

    EPERM would tell a C library that a call exists and is forbidden, so that it would not fall back to an older one.
    Source: opencontainers/runc's reasoning for the same; linux/bpf_common.h for the encoding.
    """
    if machine not in _NATIVE:
        return b""
    load_word, jump_equal, jump_greater, jump_not_less, give = 0x20, 0x15, 0x25, 0x35, 0x06
    return b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (load_word, 0, 0, 4),  # seccomp_data.arch
            (jump_equal, 0, 4, _NATIVE[machine][1]),
            (load_word, 0, 0, 0),  # seccomp_data.nr
            (jump_not_less, 2, 0, _X32_BIT),
            (jump_greater, 0, 1, newest),
            (give, 0, 0, seccomp.SCMP_ACT_ERRNO | _ENOSYS),
        )
    )
