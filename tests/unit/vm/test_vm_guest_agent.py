"""The protocol with the guest's init, and the host's end of it over a socket pair."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import DomainError
from lab.vm.guest_agent import (
    INPUT_WINDOW_BYTES,
    FrameDecoder,
    GuestAgent,
    GuestCommand,
    GuestExecution,
    encode_command,
    encode_count,
    encode_frame,
    parse_meminfo,
)

SECOND_NS = 1_000_000_000
frames = st.lists(
    st.tuples(
        st.sampled_from([b"O", b"E", b"D"]), st.integers(min_value=0, max_value=2**32 - 1), st.binary(max_size=40)
    )
)


@given(frames, st.integers(min_value=1, max_value=17))
def test_frames_come_out_as_they_went_in_however_they_were_cut(sent: list[tuple[bytes, int, bytes]], step: int) -> None:
    stream = b"".join(encode_frame(kind, frame_id, payload) for kind, frame_id, payload in sent)
    decoder = FrameDecoder()
    received = [frame for start in range(0, len(stream), step) for frame in decoder.feed(stream[start : start + step])]
    assert received == sent


def test_a_command_lists_its_counts_and_then_its_strings() -> None:
    command = GuestCommand(argv=("cat", ""), env=(("A", "b"),), cwd="/tmp", stdin=b"\0in")
    expected = struct.pack("<III", 1, 2, 1) + b"x=y\0cat\0\0A=b\0/tmp\0\0in"
    assert encode_command(command, ["x=y"]) == expected


@pytest.mark.parametrize("command", [GuestCommand(argv=()), GuestCommand(argv=("a\0b",))])
def test_a_command_that_cannot_be_encoded_is_refused(command: GuestCommand) -> None:
    with pytest.raises(ValueError):
        encode_command(command)


def test_memory_is_given_in_bytes_and_counts_stay_counts() -> None:
    assert parse_meminfo("MemTotal:  2 kB\nHugePages_Total:   3\n\n") == {"MemTotal": 2048, "HugePages_Total": 3}


class FakeGuest:
    """The other end of the socket: answers with what it is told to."""

    def __init__(self) -> None:
        self.agent = GuestAgent()
        ours, self.theirs = socket.socketpair()
        self.ours = ours
        self.agent.connect(ours)
        self.decoder = FrameDecoder()

    def next_frame(self) -> tuple[bytes, int, bytes]:
        while True:
            for frame in self.decoder.feed(self.theirs.recv(65536)):
                return frame


@pytest.fixture
def guest() -> Iterator[FakeGuest]:
    fake = FakeGuest()
    yield fake
    fake.ours.close()
    fake.theirs.close()


def in_thread(action: object) -> threading.Thread:
    thread = threading.Thread(target=action)  # type: ignore[arg-type]  # a callable
    thread.start()
    return thread


def test_an_execution_gathers_output_until_its_end(guest: FakeGuest) -> None:
    def answer() -> None:
        kind, frame_id, _ = guest.next_frame()
        assert kind == b"X"
        for reply in (
            encode_frame(b"O", frame_id, b"a"),
            encode_frame(b"E", frame_id, b"e"),
            encode_frame(b"O", frame_id + 7, b"another's"),
            encode_frame(b"O", frame_id, b"b"),
            encode_frame(b"D", frame_id, struct.pack("<IQ", 3, 42)),
        ):
            guest.agent.feed(reply)

    thread = in_thread(answer)
    done = guest.agent.execute(GuestCommand(argv=("x",)), timeout_ns=5 * SECOND_NS)
    thread.join()
    assert done == GuestExecution(exit_code=3, stdout=b"ab", stderr=b"e", elapsed_ns=42)


def test_a_command_that_does_not_end_in_time_is_killed(guest: FakeGuest) -> None:
    def answer() -> None:
        _, frame_id, _ = guest.next_frame()
        kind, killed, _ = guest.next_frame()
        assert (kind, killed) == (b"K", frame_id)
        guest.agent.feed(encode_frame(b"D", frame_id, struct.pack("<IQ", 137, 1)))

    thread = in_thread(answer)
    with pytest.raises(TimeoutError, match="did not end within"):
        guest.agent.execute(GuestCommand(argv=("x",)), timeout_ns=SECOND_NS // 100)
    thread.join()


def test_losing_the_guest_ends_every_wait_with_the_reason(guest: FakeGuest) -> None:
    def lose() -> None:
        guest.next_frame()
        guest.agent.lose("QEMU ended")

    thread = in_thread(lose)
    with pytest.raises(DomainError, match="QEMU ended"):
        guest.agent.execute(GuestCommand(argv=("x",)), timeout_ns=60 * SECOND_NS)
    thread.join()
    with pytest.raises(DomainError, match="QEMU ended"):
        guest.agent.memory_bytes(timeout_ns=SECOND_NS)


def test_a_refusal_is_an_error_with_the_guests_words(guest: FakeGuest) -> None:
    def refuse() -> None:
        _, frame_id, _ = guest.next_frame()
        guest.agent.feed(encode_frame(b"F", frame_id, b"too many"))

    thread = in_thread(refuse)
    with pytest.raises(DomainError, match="too many"):
        guest.agent.execute(GuestCommand(argv=("x",)), timeout_ns=5 * SECOND_NS)
    thread.join()


def test_a_guest_that_takes_nothing_is_a_timeout_and_not_a_hang(guest: FakeGuest) -> None:
    huge = GuestCommand(argv=("cat",), stdin=bytes(8 * 1024 * 1024))
    with pytest.raises(TimeoutError, match="does not take requests"):
        guest.agent.start(huge, (), deadline_ns=time.monotonic_ns() + SECOND_NS // 20)


def test_without_a_connection_the_guest_cannot_be_reached() -> None:
    with pytest.raises(DomainError, match="not connected"):
        GuestAgent().memory_bytes(timeout_ns=SECOND_NS)


def test_how_a_program_is_run_comes_before_its_words() -> None:
    command = GuestCommand(argv=("id",), user=(5, 6, (6, 7)), terminal=(24, 80), input_open=True, window_bytes=9)
    assert command.settings == ("user=5:6:6,7", "terminal=24:80", "input=open", "window=9")
    assert encode_command(command, ["x=y"]).startswith(struct.pack("<III", 5, 1, 0) + b"x=y\0user=5:6:6,7\0")


class Streamed:
    """An agent with one streamed command, whose guest is this test."""

    def __init__(self, stack: ExitStack) -> None:
        host, self.guest = (stack.enter_context(each) for each in socket.socketpair())
        self.agent = GuestAgent()
        self.agent.connect(host)
        self.frames: list[tuple[bytes, bytes]] = []
        command = GuestCommand(argv=("cat",), input_open=True)
        self.id = self.agent.stream(
            command,
            lambda kind, payload: self.frames.append((kind, payload)),
            deadline_ns=time.monotonic_ns() + SECOND_NS,
        )
        self._decoder = FrameDecoder()
        self.received()

    def received(self) -> list[tuple[bytes, int, bytes]]:
        return list(self._decoder.feed(self.guest.recv(1 << 20)))


@pytest.fixture
def streamed() -> Iterator[Streamed]:
    with ExitStack() as stack:
        yield Streamed(stack)


def test_a_streamed_command_gives_its_frames_until_its_end(streamed: Streamed) -> None:
    for kind, payload in ((b"O", b"out"), (b"E", b"err"), (b"D", struct.pack("<IQ", 3, 9)), (b"O", b"too late")):
        streamed.agent.feed(encode_frame(kind, streamed.id, payload))
    assert streamed.frames == [(b"O", b"out"), (b"E", b"err"), (b"D", struct.pack("<IQ", 3, 9))]
    assert not streamed.agent.is_running(streamed.id)


def test_a_streamed_command_hears_that_its_guest_is_gone(streamed: Streamed) -> None:
    streamed.agent.lose("it was stopped")
    assert streamed.frames == [(b"F", b"it was stopped")]


def test_input_waits_until_the_guest_has_taken_what_came_before(streamed: Streamed) -> None:
    data = bytes(INPUT_WINDOW_BYTES)
    streamed.agent.send_input(streamed.id, data)
    sender = threading.Thread(target=streamed.agent.send_input, args=(streamed.id, b"more"))
    sender.start()
    sender.join(0.1)
    assert sender.is_alive()
    while not streamed.received():  # a socket that is nearly full takes nothing more
        pass
    streamed.agent.feed(encode_frame(b"A", streamed.id, encode_count(4)))
    sender.join(5)
    assert not sender.is_alive()


def test_input_of_a_command_that_has_ended_is_dropped(streamed: Streamed) -> None:
    streamed.agent.send_input(streamed.id, bytes(INPUT_WINDOW_BYTES))
    sender = threading.Thread(target=streamed.agent.send_input, args=(streamed.id, b"more"))
    sender.start()
    streamed.agent.feed(encode_frame(b"D", streamed.id, struct.pack("<IQ", 0, 1)))
    sender.join(5)
    assert not sender.is_alive()


def test_a_signal_and_a_size_are_frames_for_their_command(streamed: Streamed) -> None:
    streamed.agent.signal(streamed.id, 15)
    streamed.agent.resize(streamed.id, 30, 100)
    streamed.agent.end_input(streamed.id)
    expected = [
        (b"G", streamed.id, struct.pack("<I", 15)),
        (b"W", streamed.id, struct.pack("<II", 30, 100)),
        (b"C", streamed.id, b""),
    ]
    assert streamed.received() == expected
