"""QEMU's own control channel: one command at a time, and its answer; for machines that libvirt does not know of.

Source: qemu docs/interop/qmp-spec.txt.
"""

from __future__ import annotations

import json
import socket
import time
from types import TracebackType
from typing import Any

from lab.errors import DomainError

_POLL_S = 0.05
_ANSWER_S = 60.0


class Monitor:
    """A connection to a QMP socket, to be used in a ``with`` block."""

    def __init__(self, path: str) -> None:
        """Connect, and leave the negotiation of capabilities behind.

        Raises:
            DomainError: nobody listens there, or it is no QEMU.
        """
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_ANSWER_S)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise DomainError(f"cannot reach QEMU at {path}: {error.strerror}") from error
        self._lines = self._socket.makefile("rb")
        self._receive()  # its greeting
        self.execute("qmp_capabilities")

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, **arguments: object) -> Any:
        """Return what ``command`` returns; underscores in the names of arguments stand for hyphens.

        Raises:
            DomainError: QEMU refused, or has ended.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        request = {"execute": command} | ({"arguments": named} if named else {})
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise DomainError(f"QEMU has ended before {command}") from error
        while True:
            answer = self._receive()
            if "error" in answer:
                raise DomainError(f"QEMU refused {command}: {answer['error']['desc']}")
            if "return" in answer:  # anything else is an event
                return answer["return"]

    def wait_for_migration(self, *, deadline_ns: int) -> None:
        """Wait until the migration that has been asked for is complete.

        Raises:
            DomainError: it failed, or QEMU has ended.
            TimeoutError: it was not complete by ``deadline_ns`` (CLOCK_MONOTONIC).
        """
        while (found := self.execute("query-migrate")).get("status") != "completed":
            if found.get("status") in ("failed", "cancelled"):
                raise DomainError(
                    f"the state of the machine could not be moved: {found.get('error-desc', 'no reason given')}"
                )
            if time.monotonic_ns() > deadline_ns:
                raise TimeoutError("the state of the machine was not moved in time")
            time.sleep(_POLL_S)

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except OSError as error:
            raise DomainError(f"QEMU at {self._path} does not answer: {error}") from error
        if not line:
            raise DomainError(f"QEMU at {self._path} has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer
