"""Device rules as a BPF program: an interpreter of its few instructions runs it, and the rules themselves judge."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container import defaults
from lab.container.device_program import compile_rules
from lab.container.spec.runtime import DeviceRule

MKNOD, READ, WRITE = 1, 2, 4
BITS = {"m": MKNOD, "r": READ, "w": WRITE}
BLOCK, CHAR = 1, 2
TYPES = {"b": BLOCK, "c": CHAR}

numbers = st.one_of(st.none(), st.integers(0, 3))
rules = st.builds(
    DeviceRule,
    allow=st.booleans(),
    type=st.sampled_from("abc"),
    major=numbers,
    minor=numbers,
    access=st.sets(st.sampled_from("rwm"), min_size=1).map("".join),
)
requests = st.tuples(
    st.sampled_from((BLOCK, CHAR)), st.integers(0, 4), st.integers(0, 4), st.integers(1, MKNOD | READ | WRITE)
)


def run(program: bytes, kind: int, major: int, minor: int, access: int) -> int:
    """Run a program as the kernel would; anything that its verifier would refuse is an error here as well."""
    context = struct.pack("=III", access << 16 | kind, major, minor)
    instructions = [struct.unpack_from("=BBhi", program, at) for at in range(0, len(program), 8)]
    registers: dict[int, int] = {}  # reading one that was never written is a KeyError
    at = 0
    while True:
        code, packed, offset, immediate = instructions[at]
        dst, src = packed & 15, packed >> 4
        at += 1
        if code == 0x61:
            assert src == 1
            registers[dst] = struct.unpack_from("=I", context, offset)[0]
        elif code == 0xBF:
            registers[dst] = registers[src]
        elif code == 0xB7:
            registers[dst] = immediate
        elif code == 0x57:
            registers[dst] &= immediate & (1 << 64) - 1
        elif code == 0x77:
            registers[dst] >>= immediate
        elif code in (0x15, 0x55):
            assert offset >= 0
            at += offset if (registers[dst] == immediate) == (code == 0x15) else 0
        else:
            assert code == 0x95
            return registers[0]


def unreached(program: bytes) -> set[int]:
    """Return the instructions to which no way leads, whatever the values: the verifier refuses such a program."""
    count = len(program) // 8
    seen: set[int] = set()
    waiting = [0]
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        code, _, offset, _ = struct.unpack_from("=BBhi", program, at * 8)
        waiting += [] if code == 0x95 else [at + 1, at + 1 + offset] if code in (0x15, 0x55) else [at + 1]
    assert max(seen) < count
    return set(range(count)) - seen


def is_allowed(given_rules: tuple[DeviceRule, ...], kind: int, major: int, minor: int, access: int) -> bool:
    """Decide by the rules themselves: each bit by the last rule that speaks of it."""

    def verdict(bit: int) -> bool:
        speaking = [
            rule.allow
            for rule in given_rules
            if any(BITS[letter] == bit for letter in rule.access)
            and (rule.type == "a" or TYPES[rule.type] == kind)
            and rule.major in (None, major)
            and rule.minor in (None, minor)
        ]
        return bool(speaking) and speaking[-1]

    return all(verdict(bit) for bit in BITS.values() if access & bit)


@given(st.lists(rules, max_size=8).map(tuple), requests)
def test_the_program_decides_as_the_rules_do(
    given_rules: tuple[DeviceRule, ...], request: tuple[int, int, int, int]
) -> None:
    program = compile_rules(given_rules)
    assert run(program, *request) == is_allowed(given_rules, *request)
    assert unreached(program) == set()


@pytest.mark.parametrize(
    ("kind", "major", "minor", "access", "allowed"),
    [
        (CHAR, 1, 3, READ | WRITE, True),  # /dev/null
        (CHAR, 136, 7, READ | WRITE, True),  # a terminal
        (CHAR, 10, 232, READ, False),  # /dev/kvm
        (CHAR, 10, 232, MKNOD, True),
        (BLOCK, 254, 0, READ, False),  # a disk
        (BLOCK, 254, 0, MKNOD, True),
        (BLOCK, 254, 0, MKNOD | READ, False),
        (BLOCK, 1, 3, READ, False),  # a RAM disk with the numbers of /dev/null
    ],
)
def test_the_defaults_are_dockers(kind: int, major: int, minor: int, access: int, allowed: bool) -> None:
    assert run(compile_rules(defaults.DEVICE_RULES), kind, major, minor, access) == allowed


def test_a_denied_write_denies_opening_for_both() -> None:
    program = compile_rules((DeviceRule(allow=True), DeviceRule(allow=False, type="c", major=1, access="w")))
    assert [run(program, CHAR, 1, 3, access) for access in (READ, WRITE, READ | WRITE)] == [1, 0, 0]


def test_without_rules_everything_is_denied() -> None:
    assert run(compile_rules(()), CHAR, 1, 3, READ) == 0
