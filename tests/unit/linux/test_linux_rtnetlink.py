"""Messages to rtnetlink as the kernel lays them out, and its answers. Source: linux/netlink.h, linux/neighbour.h."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.linux import rtnetlink as rt


@given(st.integers(0, 2**16 - 1), st.binary(max_size=200))
def test_an_attribute_tells_its_length_without_the_padding_to_four_bytes(kind: int, payload: bytes) -> None:
    encoded = rt.attribute(kind, payload)
    length, found = struct.unpack_from("=HH", encoded)
    assert (length, found) == (4 + len(payload), kind)
    assert encoded[4:length] == payload
    assert len(encoded) % 4 == 0
    assert set(encoded[length:]) <= {0}


def test_the_heads_of_messages_have_the_kernels_sizes() -> None:
    assert len(rt.ifinfomsg()) == 16
    assert len(rt.ifaddrmsg(prefix_length=24, index=1)) == 8
    assert len(rt.rtmsg()) == 12
    assert len(rt.ndmsg(index=1, state=rt.NUD_PERMANENT)) == 12


def test_a_neighbour_has_its_link_and_state_where_the_kernel_looks() -> None:
    assert struct.unpack_from("=BxxxiHBB", rt.ndmsg(index=7, state=rt.NUD_PERMANENT)) == (2, 7, 0x80, 0, 0)


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_a_batch_is_read_back_message_by_message(bodies: list[bytes]) -> None:
    requests = [rt.Request(rt.RTM_NEWLINK, rt.NLM_F_REQUEST, body, "x") for body in bodies]
    data = b""
    for number, request in enumerate(requests):
        encoded = rt._encode(request, number)
        data += encoded + b"\0" * (-len(encoded) % 4)
    assert [(kind, number, body) for kind, _, number, body in rt._messages(data)] == [
        (rt.RTM_NEWLINK, number, body) for number, body in enumerate(bodies)
    ]


def test_an_acknowledgement_is_no_error() -> None:
    assert rt._error(struct.pack("=i", 0) + bytes(16), 0, "link x") == []


def test_an_error_has_its_number_its_subject_and_the_kernels_own_words() -> None:
    capped = 0x100 | 0x200  # the request's head only, then attributes
    words = rt.attribute(1, b"Device does not exist\0")
    (error,) = rt._error(struct.pack("=i", -errno.ENODEV) + bytes(16) + words, capped, "link x")
    assert (error.errno, error.filename) == (errno.ENODEV, "link x")
    assert "Device does not exist" in str(error)
    (silent,) = rt._error(struct.pack("=i", -errno.EPERM) + bytes(16), 0, "link y")
    assert str(silent) == "[Errno 1] Operation not permitted: 'link y'"


@given(st.binary(max_size=60))
def test_garbled_words_are_left_out_and_never_loop(attributes: bytes) -> None:
    assert isinstance(rt._extended(attributes), str)


def test_a_link_that_is_not_there_is_told_by_name() -> None:
    with rt.open_socket() as channel, pytest.raises(OSError, match="link nosuchlink0") as caught:
        rt.link_index(channel, "nosuchlink0")
    assert caught.value.errno == errno.ENODEV


def test_the_loopback_is_the_first_link() -> None:
    with rt.open_socket() as channel:
        assert rt.link_index(channel, "lo") == 1
