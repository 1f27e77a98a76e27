"""Ports that are held by sockets: nobody else gets them, and a second holder gets what is free."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from lab.container.network import holding


def taken() -> tuple[socket.socket, int]:
    server = socket.create_server(("127.0.0.1", 0))
    return server, server.getsockname()[1]


def test_what_is_noted_is_read_again_and_what_is_no_note_left_out(tmp_path: Path) -> None:
    held = [("tcp", "0.0.0.0", 8080, 80), ("udp", "::", 53, 5353)]
    assert holding.read(str(tmp_path)) == []
    holding.write(str(tmp_path), held)
    with open(tmp_path / holding.FILE, "a", encoding="ascii") as file:
        file.write("{}\n")
    assert holding.read(str(tmp_path)) == held


def test_a_port_is_held_until_the_last_copy_of_its_keeper_is_closed() -> None:
    (bound,) = holding.bind("tcp", ("127.0.0.1",), 0)
    number = bound.getsockname()[1]
    with holding.Keeper() as keeper:
        keeper.keep((bound,))
        bound.close()
        copy = os.dup(keeper.fileno())
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", number))
    os.close(copy)
    socket.create_server(("127.0.0.1", number)).close()


def test_addresses_are_bound_at_one_number_or_none_is() -> None:
    server, number = taken()
    with server, pytest.raises(OSError, match="in use") as refused:
        holding.bind("tcp", ("127.0.0.2", "127.0.0.1"), number)
    assert refused.value.filename == "127.0.0.1"
    both = holding.bind("udp", ("127.0.0.1", "127.0.0.2"), 0)
    assert len({each.getsockname()[1] for each in both}) == 1
    for each in both:
        each.close()


def test_what_somebody_else_has_meanwhile_is_left_out_and_held_as_soon_as_it_is_free() -> None:
    server, number = taken()
    (probe,) = holding.bind("tcp", ("127.0.0.1",), 0)
    other = probe.getsockname()[1]
    probe.close()
    wanted: list[holding.Held] = [("tcp", "127.0.0.1", number, 80), ("tcp", "127.0.0.1", other, 81)]
    held: set[holding.Held] = set()
    with server:
        (first,) = holding.hold_again(wanted, held)
        assert held == {wanted[1]}
        assert holding.hold_again(wanted[:1], held) == ()
    (second,) = holding.hold_again(wanted[:1], held)
    assert held == set(wanted)
    for descriptor in (first, second):
        os.close(descriptor)


def test_a_thousand_ports_are_kept_at_once_without_waiting() -> None:
    opened = [each for _ in range(1000) for each in holding.bind("udp", ("127.0.0.1",), 0)]
    with holding.Keeper() as keeper:
        keeper.keep(opened)
    for each in opened:
        each.close()
