"""What a compiled filter decides is what the profile says, call by call: the BPF is run here, not only compiled."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.container import defaults, seccomp_profile
from lab.container.seccomp_profile import Host
from lab.errors import SpecError
from lab.linux import seccomp

HOST = Host(machine="x86_64", kernel=(6, 1))
X86_64, X86 = 0xC000003E, 0x40000003
NUMBERS = {"read": 0, "mkdir": 83, "personality": 135, "socket": 41, "clone": 56, "kcmp": 312, "openat2": 437}
ALLOW, ERRNO, KILL = seccomp.SCMP_ACT_ALLOW, seccomp.SCMP_ACT_ERRNO, seccomp.SCMP_ACT_KILL
EPERM, ENOSYS = 1, 38


def _library_is_there() -> bool:
    try:
        seccomp.Filter(ALLOW).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(
    not _library_is_there() or seccomp_profile.MACHINE != "x86_64", reason="libseccomp2, and the numbers of x86_64"
)


def run(program: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = X86_64) -> int:
    """Return what a filter answers to a call: classic BPF over struct seccomp_data, as far as libseccomp uses it."""
    data = struct.pack("<iIQ6Q", number, architecture, 0, *(*arguments, *(0,) * 6)[:6])
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator, counter = 0, 0
    while True:
        operation, if_true, if_false, k = code[counter]
        counter += 1
        match operation:
            case 0x20:  # load a word of the call
                (accumulator,) = struct.unpack_from("<I", data, k)
            case 0x54:
                accumulator &= k
            case 0x05:
                counter += k
            case 0x15:
                counter += if_true if accumulator == k else if_false
            case 0x25:
                counter += if_true if accumulator > k else if_false
            case 0x35:
                counter += if_true if accumulator >= k else if_false
            case 0x45:
                counter += if_true if accumulator & k else if_false
            case 0x06:
                return k
            case _:
                raise AssertionError(f"an instruction that is not expected: {operation:#x}")


def _compile(
    *syscalls: dict[str, Any], default: str = "SCMP_ACT_ERRNO", caps: tuple[str, ...] = (), **more: Any
) -> bytes:
    profile = {"defaultAction": default, "syscalls": syscalls, **more}
    return seccomp_profile.compile_profile(json.dumps(profile), frozenset(caps), HOST)


def _entry(*names: str, action: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"names": names, "action": action, **more}


_COMPARE = {
    "SCMP_CMP_NE": lambda argument, value, _: argument != value,
    "SCMP_CMP_LT": lambda argument, value, _: argument < value,
    "SCMP_CMP_LE": lambda argument, value, _: argument <= value,
    "SCMP_CMP_EQ": lambda argument, value, _: argument == value,
    "SCMP_CMP_GE": lambda argument, value, _: argument >= value,
    "SCMP_CMP_GT": lambda argument, value, _: argument > value,
    "SCMP_CMP_MASKED_EQ": lambda argument, value, second: argument & value == second & value,
}
_WORDS = st.one_of(
    st.sampled_from([0, 1, 2, 5, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]),
    st.integers(0, 8),
    st.integers(0, 2**64 - 1),
)
_ARGUMENT = st.fixed_dictionaries(
    {"index": st.integers(0, 2), "op": st.sampled_from(sorted(_COMPARE)), "value": _WORDS, "valueTwo": _WORDS}
)
# Several conditions of a call: about different arguments, which all have to hold, or values of one, of which any will
# do. Not opposite inequalities about one argument: libseccomp 2.5.4 makes of "over 2^32, or 0" a filter that lets
# everything through.
_EQUAL = st.fixed_dictionaries({"index": st.just(0), "op": st.just("SCMP_CMP_EQ"), "value": _WORDS, "valueTwo": _WORDS})
_CONDITIONS = st.one_of(
    st.lists(_ARGUMENT, max_size=3, unique_by=lambda argument: argument["index"]), st.lists(_EQUAL, max_size=3)
)


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(NUMBERS)), _CONDITIONS),
        min_size=1,
        max_size=5,
        unique_by=lambda entry: entry[0],
    ),
    st.lists(st.tuples(st.sampled_from(sorted(NUMBERS)), st.tuples(_WORDS, _WORDS, _WORDS)), min_size=1, max_size=20),
)
@settings(deadline=None, max_examples=60)
def test_a_filter_decides_as_its_profile_says(
    entries: list[tuple[str, list[dict[str, Any]]]], calls: list[tuple[str, tuple[int, int, int]]]
) -> None:
    program = _compile(*(_entry(name, args=arguments) for name, arguments in entries), default="SCMP_ACT_KILL")
    newest = max(NUMBERS[name] for name, _ in entries)
    for name, arguments in calls:
        expected = ALLOW if _allowed(dict(entries).get(name), arguments) else KILL
        if NUMBERS[name] > newest:
            expected = ERRNO | ENOSYS
        assert run(program, NUMBERS[name], arguments) == expected, (name, arguments)


def _allowed(comparisons: list[dict[str, Any]] | None, arguments: tuple[int, ...]) -> bool:
    if comparisons is None:
        return False
    indexes = [each["index"] for each in comparisons]
    held = [_COMPARE[each["op"]](arguments[each["index"]], each["value"], each["valueTwo"]) for each in comparisons]
    return all(held) if len(set(indexes)) == len(indexes) else any(held)


def test_two_conditions_about_one_argument_are_alternatives() -> None:
    values = [{"index": 0, "op": "SCMP_CMP_EQ", "value": value} for value in (1, 5)]
    program = _compile(_entry("personality", args=values), _entry("openat2"))
    assert [run(program, 135, (value,)) for value in (1, 5, 7)] == [ALLOW, ALLOW, ERRNO | EPERM]


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"])
def test_a_profile_that_allows_by_default_lets_newer_calls_through(default: str) -> None:
    program = _compile(_entry("mkdir", action="SCMP_ACT_ERRNO", errnoRet=13), default=default)
    assert run(program, NUMBERS["mkdir"]) == ERRNO | 13
    assert run(program, 5000) == run(program, NUMBERS["read"]) == seccomp_profile._ACTIONS[default]


def test_a_profile_that_refuses_by_default_says_of_newer_calls_that_there_are_none() -> None:
    program = _compile(_entry("read", "mkdir"))
    assert run(program, NUMBERS["socket"]) == ERRNO | EPERM
    assert run(program, NUMBERS["openat2"]) == ERRNO | ENOSYS


def test_a_profile_without_calls_refuses_all_alike() -> None:
    program = _compile(default="SCMP_ACT_ERRNO", defaultErrnoRet=13)
    assert run(program, 0) == run(program, 5000) == ERRNO | 13


def test_each_architecture_has_its_own_numbers() -> None:
    arch_map = [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}]
    program = _compile(_entry("mkdir"), archMap=arch_map)
    assert run(program, 83, architecture=X86_64) == run(program, 39, architecture=X86) == ALLOW
    assert run(program, 83 | 0x40000000, architecture=X86_64) == ALLOW
    assert run(program, 38, architecture=X86) == ERRNO | EPERM
    assert run(program, 83, architecture=X86) == ERRNO | ENOSYS
    assert run(program, 84 | 0x40000000, architecture=X86_64) == ERRNO | ENOSYS


def test_an_architecture_that_the_profile_lacks_may_do_nothing() -> None:
    assert run(_compile(_entry("mkdir")), 39, architecture=X86) == KILL
    listed = _compile(_entry("mkdir"), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
    assert run(listed, 39, architecture=X86) == ALLOW


@pytest.mark.parametrize(
    ("condition", "caps", "holds"),
    [
        ({"includes": {"caps": ["CAP_A", "CAP_B"]}}, ("CAP_A",), False),
        ({"includes": {"caps": ["CAP_A", "CAP_B"]}}, ("CAP_A", "CAP_B"), True),
        ({"excludes": {"caps": ["CAP_A", "CAP_B"]}}, ("CAP_B",), False),
        ({"includes": {"arches": ["amd64", "x32"]}}, (), True),
        ({"includes": {"arches": ["arm64"]}}, (), False),
        ({"excludes": {"arches": ["amd64"]}}, (), False),
        ({"includes": {"minKernel": "4.8"}}, (), True),
        ({"includes": {"minKernel": "6.10"}}, (), False),
        ({"excludes": {"minKernel": "4.8"}}, (), False),
        ({"excludes": {"minKernel": "6.10"}}, (), True),
        ({"includes": None, "excludes": {"caps": None}}, (), True),
    ],
)
def test_an_entry_holds_under_its_conditions(condition: dict[str, Any], caps: tuple[str, ...], holds: bool) -> None:
    program = _compile(_entry("mkdir", **condition), _entry("openat2"), caps=caps)
    assert (run(program, 83) == ALLOW) == holds


@pytest.mark.parametrize(
    ("action", "number", "answer"),
    [
        ("SCMP_ACT_TRACE", 7, seccomp.SCMP_ACT_TRACE | 7),
        ("SCMP_ACT_ERRNO", None, ERRNO | EPERM),
        ("SCMP_ACT_TRAP", None, seccomp.SCMP_ACT_TRAP),
        ("SCMP_ACT_KILL_PROCESS", None, seccomp.SCMP_ACT_KILL_PROCESS),
        ("SCMP_ACT_LOG", None, seccomp.SCMP_ACT_LOG),
    ],
)
def test_an_action_is_the_kernels(action: str, number: int | None, answer: int) -> None:
    more = {} if number is None else {"errnoRet": number}
    program = _compile(_entry("mkdir", action=action, **more), default="SCMP_ACT_ALLOW")
    assert run(program, 83) == answer


def test_the_older_form_with_one_name_is_read() -> None:
    program = _compile({"name": "mkdir", "action": "SCMP_ACT_ALLOW", "args": []}, _entry("openat2"))
    assert run(program, 83) == ALLOW


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("{", "not a seccomp profile"),
        ("[]", "not a seccomp profile"),
        ('{"syscalls": []}', "defaultAction"),
        ('{"defaultAction": "SCMP_ACT_NOTIFY"}', "SCMP_ACT_NOTIFY"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{}]}',
            "use either 'architectures' or 'archMap'",
        ),
        (
            '{"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_KILL"}]}',
            "use either 'name' or 'names'",
        ),
    ],
)
def test_what_is_no_profile_is_said(profile: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        seccomp_profile.compile_profile(profile, frozenset(), HOST)


def test_an_architecture_that_libseccomp_does_not_know_is_said() -> None:
    with pytest.raises(SpecError, match="no such architecture: 'pdp11'"):
        _compile(_entry("mkdir"), architectures=["SCMP_ARCH_PDP11"])


def test_the_default_profile_decides_as_dockers_users_know_it() -> None:
    text = seccomp_profile.default_profile()
    program = seccomp_profile.compile_profile(text, frozenset(defaults.CAPABILITIES), HOST)
    new_user_namespace, new_thread = 0x10000000, 0x3D0F00
    assert run(program, NUMBERS["read"]) == run(program, NUMBERS["clone"], (new_thread,)) == ALLOW
    assert run(program, NUMBERS["clone"], (new_user_namespace,)) == ERRNO | EPERM
    assert run(program, 165) == run(program, 321) == ERRNO | EPERM  # mount, bpf
    assert run(program, 435) == ERRNO | ENOSYS  # clone3
    assert run(program, NUMBERS["socket"], (40,)) == ERRNO | EPERM  # AF_VSOCK
    assert run(program, 100_000) == ERRNO | ENOSYS
