"""The words between a machine's keeper and the commands that speak to it: frames on a socket.

A frame is one of ``lab.vm.guest_agent``: a kind, an id, which is 0 here, and a payload. A command opens a connection,
sends J with a JSON object, and gets J with one, or F with one if it failed ({"message", "hint", "code"}). What follows
depends on its "op":

    attach    T C W G for the main command; D with {"code", "reason"} when it has ended and all is put away; a reason
              is one that nobody wanted
    exec      T C W G, and O E, then D with an exit code, or F
    others    nothing

A connection that is closed by the command ends what it has executed; the main command goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from lab.errors import DomainError, LabError, SpecError, StateConflict, UnavailableError
from lab.vm.guest_agent import FrameDecoder, encode_frame

SOCKET = "keeper.sock"
_READ_BYTES = 65536
_ERRORS: tuple[type[LabError], ...] = (SpecError, UnavailableError, StateConflict, DomainError)

Frame = tuple[bytes, bytes]
"""Kind and payload."""


class Link:
    """One end of a connection: frames out by any thread, frames in by one."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connected socket."""
        self._connection = connection
        self._decoder = FrameDecoder()
        self._received: list[Frame] = []
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """Return the socket's descriptor, to be polled; frames that have come already are not seen by that."""
        return self._connection.fileno()

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send a frame, waiting for the other side to take it.

        Raises:
            OSError: it is gone.
        """
        with self._sending:
            self._connection.sendall(encode_frame(kind, 0, payload))

    def receive(self) -> Frame | None:
        """Return the next frame, waiting for it; None when the other side has gone."""
        while not self._received:
            try:
                data = self._connection.recv(_READ_BYTES)
            except OSError:
                return None
            if not data:
                return None
            self._received += [(kind, payload) for kind, _, payload in self._decoder.feed(data)]
        return self._received.pop(0)

    def has_frame(self) -> bool:
        """Return whether ``receive`` would not wait."""
        return bool(self._received) or bool(select.select([self._connection], [], [], 0)[0])

    def frames(self) -> Iterator[Frame]:
        """Give all frames until the other side has gone."""
        while (frame := self.receive()) is not None:
            yield frame

    def hang_up(self) -> None:
        """End the conversation, which wakes whoever receives from it, on both sides."""
        with contextlib.suppress(OSError):  # the other side may have done so
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up and close the connection."""
        self.hang_up()
        self._connection.close()


def connect(run_directory: str) -> Link:
    """Return a link with the keeper of a machine.

    Raises:
        DomainError: nobody keeps it.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(os.path.join(run_directory, SOCKET))
    except OSError as error:
        connection.close()
        raise DomainError(f"the machine's keeper does not answer: {error.strerror}", hint="lab vm ls -a") from error
    return Link(connection)


def ask(link: Link, op: str, **arguments: object) -> Mapping[str, Any]:
    """Make a request, and return the answer.

    Raises:
        LabError: what the keeper says; the kind is kept.
        DomainError: the keeper has gone.
    """
    try:
        link.send(b"J", json.dumps({"op": op, **arguments}).encode())
    except OSError as error:
        raise DomainError(f"the machine's keeper has gone: {error.strerror}") from error
    frame = link.receive()
    if frame is None:
        raise DomainError("the machine's keeper has gone", hint="lab vm ls -a")
    kind, payload = frame
    answer: dict[str, Any] = json.loads(payload)
    if kind == b"F":
        raise decode_error(answer)
    return answer


def encode_error(error: Exception) -> dict[str, object]:
    """Return an error as JSON."""
    hint = error.hint if isinstance(error, LabError) else ""
    return {"kind": type(error).__name__, "message": str(error), "hint": hint}


def decode_error(document: Mapping[str, Any]) -> LabError:
    """Return the error that was encoded; one of no known kind is a DomainError."""
    kinds = {kind.__name__: kind for kind in _ERRORS}
    return kinds.get(document["kind"], DomainError)(document["message"], hint=document["hint"])
