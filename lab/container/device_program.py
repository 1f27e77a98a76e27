"""Device rules -> the BPF program that decides them on cgroup v2, where no interface file takes them.

The kernel runs it whenever a process of the cgroup opens a device or makes a node. Rules mean what they mean to the
OCI runtimes: for each kind of access that is asked for, the last rule that speaks of it decides, and what no rule
speaks of is denied. (v1 keeps a list instead, and takes everything until "a" is denied; the defaults begin with that.)

Source: runtime-spec config-linux.md "Allowed Device list"; kernel Documentation/admin-guide/cgroup-v2.rst
"Device controller".
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from lab.container.spec.runtime import DeviceRule
from lab.linux import bpf
from lab.linux.bpf import instruction

_ACCESS_BITS = {"m": bpf.BPF_DEVCG_ACC_MKNOD, "r": bpf.BPF_DEVCG_ACC_READ, "w": bpf.BPF_DEVCG_ACC_WRITE}
_ALL_ACCESS = sum(_ACCESS_BITS.values())
_TYPES = {"b": bpf.BPF_DEVCG_DEV_BLOCK, "c": bpf.BPF_DEVCG_DEV_CHAR}
_DENY, _ALLOW = 0, 1

_RESULT, _CONTEXT, _TYPE, _ACCESS, _MAJOR, _MINOR, _SCRATCH = range(7)  # registers; 0 and 1 are the kernel's choice
_PROLOGUE = b"".join((
    instruction(bpf.BPF_LDX_W, dst=_TYPE, src=_CONTEXT, offset=bpf.DEVICE_CONTEXT_ACCESS_AND_TYPE),
    instruction(bpf.BPF_ALU64_MOV_X, dst=_ACCESS, src=_TYPE),
    instruction(bpf.BPF_ALU64_AND_K, dst=_TYPE, immediate=0xFFFF),
    instruction(bpf.BPF_ALU64_RSH_K, dst=_ACCESS, immediate=16),
    instruction(bpf.BPF_LDX_W, dst=_MAJOR, src=_CONTEXT, offset=bpf.DEVICE_CONTEXT_MAJOR),
    instruction(bpf.BPF_LDX_W, dst=_MINOR, src=_CONTEXT, offset=bpf.DEVICE_CONTEXT_MINOR),
))  # fmt: skip


def compile_rules(rules: tuple[DeviceRule, ...]) -> bytes:
    """Return a program for BPF_PROG_TYPE_CGROUP_DEVICE, eight bytes an instruction.

    Register ``_ACCESS`` holds what has been asked for and is not yet allowed: rules are asked from the last to the
    first, each answers for its own kinds of access, and the program ends at the first denial or when none is left.
    """
    code = bytearray(_PROLOGUE)
    for rule in reversed(rules):
        if _speaks_of_everything(rule):  # none before it is ever asked (and the verifier refuses what is never reached)
            return bytes(code + _answer(_ALLOW if rule.allow else _DENY))
        code += _test(rule)
    return bytes(code + _answer(_DENY))


def _speaks_of_everything(rule: DeviceRule) -> bool:
    return rule.type == "a" and rule.major is None and rule.minor is None and _access_bits(rule) == _ALL_ACCESS


def _access_bits(rule: DeviceRule) -> int:
    return sum(bit for letter, bit in _ACCESS_BITS.items() if letter in rule.access)


def _test(rule: DeviceRule) -> bytes:
    """Return what asks one rule: unless it is about this device go on behind, else allow or deny its accesses."""
    code = b"".join(_allow(rule) if rule.allow else _deny(rule))
    for register, value in _wanted(rule):
        behind = len(code) // bpf.INSTRUCTION_BYTES
        code = instruction(bpf.BPF_JNE_K, dst=register, offset=behind, immediate=value) + code
    return code


def _wanted(rule: DeviceRule) -> Iterator[tuple[int, int]]:
    if rule.type != "a":
        yield _TYPE, _TYPES[rule.type]
    if rule.major is not None:
        yield _MAJOR, rule.major
    if rule.minor is not None:
        yield _MINOR, rule.minor


def _allow(rule: DeviceRule) -> Iterator[bytes]:
    yield instruction(bpf.BPF_ALU64_AND_K, dst=_ACCESS, immediate=~_access_bits(rule) & _ALL_ACCESS)
    yield instruction(bpf.BPF_JNE_K, dst=_ACCESS, offset=2)
    yield _answer(_ALLOW)


def _deny(rule: DeviceRule) -> Iterator[bytes]:
    yield instruction(bpf.BPF_ALU64_MOV_X, dst=_SCRATCH, src=_ACCESS)
    yield instruction(bpf.BPF_ALU64_AND_K, dst=_SCRATCH, immediate=_access_bits(rule))
    yield instruction(bpf.BPF_JEQ_K, dst=_SCRATCH, offset=2)
    yield _answer(_DENY)


def _answer(verdict: int) -> bytes:
    return instruction(bpf.BPF_ALU64_MOV_K, dst=_RESULT, immediate=verdict) + instruction(bpf.BPF_EXIT)


def attach(program: bytes, cgroup: int, *, path: str) -> None:
    """Put an open v2 cgroup directory, at ``path``, and all below it under a compiled program, until it is removed.

    Raises:
        OSError: the kernel has no such programs (CONFIG_CGROUP_BPF), or this process may not load any.
    """
    bpf.attach_program(cgroup, _load(program), bpf.BPF_CGROUP_DEVICE, bpf.BPF_F_ALLOW_MULTI, path=path)


@functools.cache
def _load(program: bytes) -> int:
    # kept as long as this process lives: to verify and compile it takes the kernel 0.3 ms, and there are few kinds
    return bpf.load_program(bpf.BPF_PROG_TYPE_CGROUP_DEVICE, program, "lab_devices")
