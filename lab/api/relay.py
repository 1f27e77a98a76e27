"""Bytes between a hijacked connection and the pipes of a container or a program in one.

What comes from a program without a terminal is framed, so that one connection carries both of its outputs: a byte that
tells the stream, three zeros, the length in four bytes, big end first. Source: docs.docker.com/reference/api/engine,
"Attach to a container".
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
from collections.abc import Mapping
from typing import Protocol

from lab.api.http import ClientGone
from lab.container.detach_keys import Detached, DetachFilter

STDOUT, STDERR = 1, 2
_CHUNK_BYTES = 1 << 15
_HEAD = struct.Struct(">BxxxL")
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


def framed(stream: int, data: bytes) -> bytes:
    """Return a piece of output with its head."""
    return _HEAD.pack(stream, len(data)) + data


class Channel(Protocol):
    """Where a client sends and takes bytes: a connection that is hijacked, or what is spoken on one."""

    def hijack(self) -> bytes:
        """Leave HTTP, and return what the client has sent already."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when the client has said more, or has gone."""

    def send_bare(self, data: bytes) -> None:
        """Send bytes to the client; ClientGone if nobody takes them."""

    def receive_bare(self, size: int) -> bytes | None:
        """Return what the client has sent, which may be nothing after all; None when it sends no more."""


class Relay:
    """One client's connection with a program: its outputs, and its input if the client has that."""

    def __init__(self, connection: Channel, *, raw: bool, keys: DetachFilter | None = None) -> None:
        """``raw`` sends the output as it is; without ``keys`` nothing that the client sends detaches."""
        self._connection, self._raw, self._keys = connection, raw, keys
        self._outputs: dict[int, int] = {}
        self._input = -1
        self._pending = bytearray()
        self._input_ended = False
        self._held = -1
        self.sent_bytes = {STDOUT: 0, STDERR: 0}

    def __enter__(self) -> Relay:
        """Return the relay itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its ends."""
        for descriptor in (*self._outputs, self._input):
            if descriptor >= 0:
                os.close(descriptor)
        self._outputs, self._input = {}, -1

    def output(self, source: int, stream: int) -> None:
        """Send what comes from a pipe or terminal; it is closed at its end."""
        self._outputs[source] = stream

    def input(self, target: int) -> None:
        """Write what the client sends to this pipe or terminal from now on; it is closed at the end of that."""
        os.set_blocking(target, False)
        if self._input >= 0:
            os.close(self._input)
        self._input = target

    def feed(self, data: bytes) -> None:
        """Take what the client has sent already.

        Raises:
            Detached: the keys are in it.
        """
        self._take(data)

    @property
    def has_input(self) -> bool:
        """Whether what the client sends goes anywhere."""
        return self._input >= 0

    def wants(self, stream: int) -> bool:
        """Return whether the client gets this output."""
        return stream in self._outputs.values()

    def hold(self, until: int) -> None:
        """Leave what the client sends where it is until a descriptor is readable: nobody would take it before."""
        self._held = until

    def send(self, stream: int, data: bytes) -> None:
        """Send a piece of output to the client.

        Raises:
            ClientGone: it does not take it.
        """
        self._connection.send_bare(data if self._raw else framed(stream, data))
        self.sent_bytes[stream] += len(data)

    def run(self) -> None:
        """Relay until all outputs have ended.

        Raises:
            ClientGone: the client has closed its connection, or does not take what is sent.
            Detached: it has sent the detach keys.
        """
        while self._outputs:
            for descriptor, events in self._wait().items():
                if descriptor == self._held:
                    self._held = -1
                    self._to_input()
                elif descriptor == self._connection.fileno():
                    self._from_client(events)
                elif descriptor == self._input:
                    self._to_input()
                elif descriptor in self._outputs:
                    self._from_program(descriptor)

    def _wait(self) -> Mapping[int, int]:
        poll = select.poll()
        for source in self._outputs:
            poll.register(source, select.POLLIN)
        wants_more = not self._input_ended and not self._pending and self._held < 0
        poll.register(self._connection, select.POLLIN if wants_more else 0)  # that it has gone is told in any case
        if self._held >= 0:
            poll.register(self._held, select.POLLIN)
        elif self._pending and self._input >= 0:
            poll.register(self._input, select.POLLOUT)
        return dict(poll.poll())

    def _from_client(self, events: int) -> None:
        if events & select.POLLIN:
            data = self._connection.receive_bare(_CHUNK_BYTES)
            if data is not None:
                self._take(data)
                return
            self._input_ended = True  # it may still listen
            self._close_input()
        if events & _GONE:
            raise ClientGone

    def _take(self, data: bytes) -> None:
        if self._input < 0:
            return
        try:
            self._pending += data if self._keys is None else self._keys.feed(data)
        except Detached as detached:
            self._pending += detached.typed
            raise
        finally:
            self._to_input()

    def _to_input(self) -> None:
        if self._held >= 0:
            return
        try:
            while self._pending:
                del self._pending[: os.write(self._input, self._pending)]
        except BlockingIOError:
            return
        except OSError:  # EPIPE, EIO: nobody wants it any more
            self._pending.clear()
            self._input_ended = True
        self._close_input()

    def _close_input(self) -> None:
        """End the program's input, once all that the client has sent is written."""
        if self._input_ended and not self._pending and self._input >= 0:
            os.close(self._input)
            self._input = -1

    def _from_program(self, source: int) -> None:
        data = b""
        with contextlib.suppress(OSError):  # EIO: a terminal whose last user has gone
            data = os.read(source, _CHUNK_BYTES)
        if data:
            self.send(self._outputs[source], data)
        else:
            del self._outputs[source]
            os.close(source)
