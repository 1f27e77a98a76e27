"""A websocket on a connection, as attach speaks it with browsers: bytes both ways, unframed, each message some of them.

Source: RFC 6455; docs.docker.com/reference/api/engine, "Attach to a container via a websocket".
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

from wsproto.connection import Connection as Protocol
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from lab.api.http import ClientGone, Connection
from lab.errors import SpecError
from lab.units import NS_PER_S

_NORMAL = 1000  # the code of an end as it should be
_GOODBYE_NS = 2 * NS_PER_S
_CHUNK_BYTES = 1 << 14
_HEAD = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
)


class WebSocket:
    """The channel of a relay that speaks websocket; ``close`` says goodbye."""

    def __init__(self, connection: Connection, headers: Mapping[str, str]) -> None:
        """Take the handshake that the ``headers`` of a request begin.

        Raises:
            SpecError: they begin none.
        """
        key = headers.get("sec-websocket-key", "")
        if headers.get("upgrade", "").lower() != "websocket" or not key:
            raise SpecError("a websocket is expected: there is no handshake in the request")
        self._connection, self._key = connection, key
        self._protocol = Protocol(ConnectionType.SERVER)
        self._is_open = False

    def hijack(self) -> bytes:
        """Answer the handshake, and return what the client has sent already.

        Raises:
            ClientGone: it does not take the answer.
        """
        self._is_open = True
        return self._taken(self._connection.take_over(_HEAD % generate_accept_token(self._key.encode("latin-1"))))

    def fileno(self) -> int:
        """Return the descriptor of the connection."""
        return self._connection.fileno()

    def send_bare(self, data: bytes) -> None:
        """Send a message.

        Raises:
            ClientGone: nobody takes it.
        """
        self._say(BytesMessage(data=data))

    def receive_bare(self, size: int) -> bytes | None:
        """Return what is in the messages that have come, which may be nothing; None once the client has said goodbye.

        Raises:
            ClientGone: the connection has broken, or what came is no websocket's.
        """
        data = self._connection.receive_bare(size)
        found = b"" if data is None else self._taken(data)
        is_over = data is None or self._protocol.state is not ConnectionState.OPEN
        return None if is_over and not found else found

    def close(self) -> None:
        """Say goodbye, and give the client a moment to answer it; nothing, if there has been one or nobody is there."""
        if not self._is_open or self._protocol.state is not ConnectionState.OPEN:
            return
        with contextlib.suppress(ClientGone):
            self._say(CloseConnection(code=_NORMAL))
            deadline_ns = time.monotonic_ns() + _GOODBYE_NS
            while not self._has_ended():
                left_ns = max(1, deadline_ns - time.monotonic_ns())
                self._connection.socket.settimeout(left_ns / NS_PER_S)
                data = self._connection.receive_bare(_CHUNK_BYTES)
                if data is None:
                    return
                self._taken(data)

    def _has_ended(self) -> bool:
        return self._protocol.state is ConnectionState.CLOSED

    def _taken(self, data: bytes) -> bytes:
        found = bytearray()
        try:
            if data:
                self._protocol.receive_data(data)
            for event in self._protocol.events():
                if isinstance(event, BytesMessage):
                    found += event.data
                elif isinstance(event, TextMessage):
                    found += event.data.encode()
                elif isinstance(event, Ping | CloseConnection):
                    self._say(event.response())
        except RemoteProtocolError as error:
            raise ClientGone from error
        return bytes(found)

    def _say(self, event: Event) -> None:
        try:
            data = self._protocol.send(event)
        except LocalProtocolError as error:  # goodbye has been said
            raise ClientGone from error
        self._connection.send_bare(data)
