"""Addresses, disk sizes, sockets and QMP's answers: what is decided without a guest."""

from __future__ import annotations

import ipaddress
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import SpecError, UnavailableError
from lab.vm import cache, disk_image, network
from lab.vm.console import GuestChannels, Tail, check_socket_directory
from lab.vm.guest_agent import GuestAgent
from lab.vm.platform import parse_machines

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000013C6\t00000000\t0001\t0\t0\t0\tFCFFFFFF\t0\t0\t0
"""


@given(st.integers(0, 16383))
def test_every_link_lies_in_the_pool_and_has_a_name_that_fits(index: int) -> None:
    link = network.link_at(index)
    host, guest = ipaddress.IPv4Address(link.host_address), ipaddress.IPv4Address(link.guest_address)
    assert host in network.POOL
    assert int(guest) == int(host) + 1
    assert len(link.link) <= 15
    assert len(link.mac.split(":")) == 6


def test_the_pool_has_an_end() -> None:
    with pytest.raises(ValueError):
        network.link_at(16384)


def test_links_that_the_host_routes_elsewhere_are_left_alone() -> None:
    routes = network.parse_routes(ROUTES)
    assert routes == (ipaddress.IPv4Network("198.19.0.0/30"),)  # the default route is none of them
    assert not network.is_free(network.link_at(0), routes)
    assert network.is_free(network.link_at(1), routes)


def test_two_guests_of_whatever_root_never_have_the_same_addresses() -> None:
    first, second = network.lease(), network.lease()
    assert first.network != second.network
    first.release()
    third = network.lease()
    assert third.network != second.network
    second.release()
    third.release()


@given(st.integers(0, 10**10), st.integers(0, 10**5))
def test_a_disk_has_room_for_its_content_and_a_gibibyte_more(content_bytes: int, files: int) -> None:
    size = disk_image.template_size_bytes(content_bytes, files)
    assert size > content_bytes + 1024**3
    assert size % (1024 * 1024) == 0


def test_a_tree_is_measured_in_whole_blocks_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x")
    (tmp_path / "link").symlink_to("d")
    assert disk_image.measure(str(tmp_path)) == (4096, 3)


def test_what_is_made_once_is_made_by_one(tmp_path: Path) -> None:
    made: list[str] = []

    def build(temporary: str) -> None:
        made.append(temporary)
        Path(temporary).write_text("whole")

    path = str(tmp_path / "thing")
    threads = [threading.Thread(target=cache.make_once, args=(path, build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert Path(path).read_text() == "whole"


def test_what_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    def build(temporary: str) -> None:
        Path(temporary).write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.make_once(str(tmp_path / "thing"), build)
    assert [path.name for path in tmp_path.iterdir()] == ["thing.lock"]


def test_a_directory_too_long_for_sockets_is_named_with_a_way_out() -> None:
    with pytest.raises(SpecError, match="too long") as raised:
        check_socket_directory("/" + "x" * 100)
    assert "LAB_ROOT" in raised.value.hint


def test_a_tail_keeps_the_last_lines_that_are_not_empty() -> None:
    tail = Tail()
    tail.add(b"one\r\n\r\ntwo\r\nthr")
    tail.add(b"ee\n")
    assert tail.lines(2) == ("two", "three")


def test_a_tail_forgets_what_is_old() -> None:
    tail = Tail()
    tail.add(b"x" * 100_000 + b"end")
    assert len(tail.content()) == 65536
    assert tail.content().endswith(b"end")


def test_sockets_are_there_while_channels_are_open_and_gone_afterwards(tmp_path: Path) -> None:
    channels = GuestChannels(str(tmp_path), GuestAgent())
    channels.open()
    assert len(list(tmp_path.iterdir())) == 5
    channels.close()
    channels.close()
    assert list(tmp_path.iterdir()) == []


def test_waiting_ends_when_the_guest_is_lost(tmp_path: Path) -> None:
    channels = GuestChannels(str(tmp_path), GuestAgent())
    channels.lose("gone")
    assert not channels.wait(lambda: False, deadline_ns=time.monotonic_ns() + 60 * 10**9)
    assert channels.lost == "gone"


def test_machine_types_are_read_with_their_aliases() -> None:
    replies = '{"QMP": {}}\n{"return": {}}\n{"return": [{"name": "pc-q35-7.2", "alias": "q35"}, {"name": "microvm"}]}'
    assert parse_machines(replies) == ("microvm", "pc-q35-7.2", "q35")


def test_a_qemu_that_lists_nothing_is_not_available() -> None:
    with pytest.raises(UnavailableError, match="does not list"):
        parse_machines('{"return": {}}')
