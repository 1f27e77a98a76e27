"""The values of ``RUN --mount`` become mounts, or are refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.image.run_mounts import MountType, RunMount, Sharing, parse_mount
from lab.errors import SpecError


def _parse(text: str) -> RunMount:
    return parse_mount(text, lambda value: value.replace("$x", "expanded"), cwd="/w")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/t", RunMount(type=MountType.BIND, target="/t")),
        ("type=bind,from=s,src=a,dst=t", RunMount(type=MountType.BIND, target="/w/t", source="a", origin="s")),
        ("type=bind,target=/t,rw", RunMount(type=MountType.BIND, target="/t", read_only=False)),
        ("type=bind,target=/t,readonly=false", RunMount(type=MountType.BIND, target="/t", read_only=False)),
        ("type=cache,target=/c", RunMount(type=MountType.CACHE, target="/c", id="/c", read_only=False)),
        ("type=cache,id=$x,target=/c,sharing=locked,mode=0711,uid=3,gid=4,ro",
         RunMount(type=MountType.CACHE, target="/c", id="expanded", sharing=Sharing.LOCKED, mode=0o711, uid=3, gid=4)),
        ("type=secret,id=s", RunMount(type=MountType.SECRET, target="/run/secrets/s", id="s")),
        ("type=secret,src=d/s,required",
         RunMount(type=MountType.SECRET, target="/run/secrets/s", id="s", required=True)),
        ("type=secret,id=s,env=S", RunMount(type=MountType.SECRET, target="", id="s", variable="S")),
        ("type=secret,id=s,env=S,target=/t", RunMount(type=MountType.SECRET, target="/t", id="s", variable="S")),
        ("type=tmpfs,target=/t,size=1m",
         RunMount(type=MountType.TMPFS, target="/t", read_only=False, size_bytes=1 << 20)),
        ('type=bind,"target=/a,b"', RunMount(type=MountType.BIND, target="/a,b")),
    ],
)  # fmt: skip
def test_a_value_is_understood(text: str, expected: RunMount) -> None:
    assert _parse(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type=ssh", "not supported"),
        ("type=x,target=/t", "unsupported mount type 'x'"), ("type=bind", "needs a target"),
        ("type=cache,target=/", "at / is not possible"), ("type=secret", "one of source, target required"),
        ("target", "must be a key=value pair"), ("target=/t,nonsense=1", "unexpected key 'nonsense'"),
        ("type=tmpfs,target=/t,mode=7", "unexpected key 'mode'"), ("type=cache,target=/c,mode=9", "invalid value 9"),
        ("type=cache,target=/c,uid=x", "invalid value x for uid"), ("type=cache,target=/c,sharing=x", "sharing value"),
        ("type=tmpfs,target=/t,size=x", "invalid value for size"), ("target=/t,ro=maybe", "invalid value for readonly"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        _parse(text)


@given(
    st.lists(st.sampled_from(["type=", "cache", "secret", "target=", "/t", ",", "=", '"', "id=", "x", "ro", "size="]))
)
def test_no_value_raises_anything_else(parts: list[str]) -> None:
    with contextlib.suppress(SpecError):
        _parse("".join(parts))
