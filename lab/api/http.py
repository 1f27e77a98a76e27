"""HTTP/1.1 on one connection, through h11: requests in, answers and streams out, and the bare socket after a hijack.

Source: RFC 9110 and 9112; docs.docker.com/reference/api/engine, "Attach to a container" for what a hijack looks like.
"""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import h11

from lab.errors import SpecError

_HEAD_BYTES_MAX = 1 << 16
_RECEIVE_BYTES = 1 << 16
_DOCUMENT_BYTES_MAX = 16 << 20
_DRAINED_BYTES_MAX = 1 << 20
JSON = "application/json"
RAW_STREAM = "application/vnd.docker.raw-stream"

Headers = tuple[tuple[str, str], ...]


class ClientGone(Exception):  # noqa: N818 - what happened, not a fault of ours
    """The client has closed its connection, or said something that is no HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks: the method, the target as it was sent, and the headers by their names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def wants_upgrade(self) -> bool:
        """Whether the client wants to go on with the bare connection, and says so as HTTP has it."""
        return "upgrade" in self.headers.get("connection", "").lower() and "upgrade" in self.headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer; without a ``media_type`` it has no body."""

    status: int = HTTPStatus.OK
    body: bytes = b""
    media_type: str = ""
    headers: Headers = ()


def document(value: object, *, status: int = HTTPStatus.OK) -> Answer:
    """Return an answer that is a JSON document, on one line as docker writes it."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape") + b"\n"
    return Answer(status=status, body=body, media_type=JSON)


def nothing(status: int = HTTPStatus.NO_CONTENT) -> Answer:
    """Return an answer without a body."""
    return Answer(status=status)


class Connection:
    """One client's connection, used by one thread."""

    def __init__(self, client: socket.socket, headers: Headers) -> None:
        """Take the socket over; ``headers`` are part of every answer."""
        self.socket = client
        self.is_idle = True
        self.has_answered = False
        self._headers = headers
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES_MAX)
        self._request: Request | None = None
        self._body_ended = False
        self._hijacked = False

    def fileno(self) -> int:
        """Return the descriptor of the socket, which becomes readable when the client says more, or goes."""
        return self.socket.fileno()

    # -- requests ------------------------------------------------------------------------------------------------------

    def next_request(self) -> Request | None:
        """Return the next request, None when the client has no more.

        Raises:
            ClientGone: what came is no request; the client has been told so.
        """
        self.is_idle = True
        try:
            event = self._next_event()
        except h11.RemoteProtocolError as error:
            self._refuse(error)
            raise ClientGone from error
        if not isinstance(event, h11.Request):
            return None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        self._request = Request(method=event.method.decode(), target=event.target.decode("latin-1"), headers=headers)
        self.is_idle, self.has_answered, self._body_ended = False, False, False
        return self._request

    def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                self._send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
            try:
                self._http.receive_data(self.socket.recv(_RECEIVE_BYTES))
            except OSError as error:
                raise ClientGone from error
        return event

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answer what is no HTTP as far as it can be answered."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"message": f"Bad Request: {error}"}).encode()
            headers = [("Content-Type", JSON), ("Content-Length", str(len(body))), ("Connection", "close")]
            status = error.error_status_hint
            self._send(h11.Response(status_code=status, headers=headers, reason=_reason(status)))
            self._send(h11.Data(data=body))
            self._send(h11.EndOfMessage())

    def body(self) -> Iterator[bytes]:
        """Give the body of the request as it comes.

        Raises:
            ClientGone: it breaks off.
        """
        while not self._body_ended:
            try:
                event = self._next_event()
            except h11.RemoteProtocolError as error:
                raise ClientGone from error
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._body_ended = True
            else:
                raise ClientGone

    def document(self) -> Mapping[str, object]:
        """Return the JSON object that is the body, an empty one where there is none.

        Raises:
            SpecError: it is none, or longer than any that makes sense.
        """
        text = bytearray()
        for part in self.body():
            text += part
            if len(text) > _DOCUMENT_BYTES_MAX:
                raise SpecError(f"the request's document is longer than {_DOCUMENT_BYTES_MAX} bytes")
        try:
            found = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError) as error:
            raise SpecError(f"invalid JSON: {error}") from error
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise SpecError(f"invalid JSON: an object is expected, not {type(found).__name__}")
        return found

    # -- answers -------------------------------------------------------------------------------------------------------

    def answer(self, answer: Answer) -> None:
        """Send a whole answer.

        Raises:
            ClientGone: nobody takes it.
        """
        headers = list(answer.headers)
        if answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            headers.append(("Content-Length", str(len(answer.body))))
        self._begin(answer.status, answer.media_type, headers)
        if answer.body and not self._is_head:
            self._send(h11.Data(data=answer.body))
        self._send(h11.EndOfMessage())

    def begin(self, media_type: str, *, status: int = HTTPStatus.OK, headers: Headers = ()) -> None:
        """Begin an answer whose parts are sent by ``write`` as they come, and which ``end`` ends.

        Raises:
            ClientGone: nobody takes it.
        """
        self._begin(status, media_type, list(headers))

    def write(self, data: bytes) -> int:
        """Send a part of the answer at once, and return its length.

        Raises:
            ClientGone: nobody takes it.
        """
        if data and not self._is_head:
            self._send(h11.Data(data=data))
        return len(data)

    def end(self) -> None:
        """End the answer that ``begin`` has begun.

        Raises:
            ClientGone: nobody takes it.
        """
        self._send(h11.EndOfMessage())

    def hijack(self) -> bytes:
        """Turn the connection into a bare stream both ways, and return what the client has sent on it already.

        Raises:
            ClientGone: it does not take the answer.
        """
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n"
        if self._request is not None and self._request.wants_upgrade:
            head = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: %s\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        return self.take_over(head % RAW_STREAM.encode())

    def take_over(self, head: bytes) -> bytes:
        """Answer with a head alone, after which no HTTP is spoken, and return what the client has sent on it already.

        Raises:
            ClientGone: it does not take the answer.
        """
        for _ in self.body():  # what does not belong to the stream
            continue
        self.has_answered = self._hijacked = True
        self.send_bare(head)
        early, _ = self._http.trailing_data
        return early

    def send_bare(self, data: bytes | memoryview) -> None:
        """Send bytes as they are, after a hijack.

        Raises:
            ClientGone: nobody takes them.
        """
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise ClientGone from error

    def receive_bare(self, size: int) -> bytes | None:
        """Return bytes as they come, after a hijack, at most so many; None when there are no more.

        Raises:
            ClientGone: the connection has broken.
        """
        try:
            return self.socket.recv(size) or None
        except OSError as error:
            raise ClientGone from error

    def goes_on(self) -> bool:
        """Return whether another request may come, after an answer; what is left of this one's body is thrown away.

        Raises:
            ClientGone: the body breaks off.
        """
        if self._hijacked or self._http.they_are_waiting_for_100_continue:
            return False
        drained = 0
        for part in self.body():
            drained += len(part)
            if drained > _DRAINED_BYTES_MAX:
                return False
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    @property
    def _is_head(self) -> bool:
        return self._request is not None and self._request.method == "HEAD"

    def _begin(self, status: int, media_type: str, headers: list[tuple[str, str]]) -> None:
        if media_type:
            headers.append(("Content-Type", media_type))
        self.has_answered = True
        self._send(h11.Response(status_code=status, headers=[*self._headers, *headers], reason=_reason(status)))

    def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self.send_bare(data)


class BodyStream(io.BufferedIOBase):
    """The body of a request as a stream that is read in pieces."""

    def __init__(self, connection: Connection) -> None:
        """Nothing is read yet."""
        self._parts = connection.body()
        self._rest = bytearray()

    def readable(self) -> bool:
        """It is, and cannot be searched."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return as many bytes as are asked for, fewer only at the end; all that is left for a negative ``size``.

        Raises:
            ClientGone: the body breaks off.
        """
        size = -1 if size is None else size
        while size < 0 or len(self._rest) < size:
            part = next(self._parts, b"")
            if not part:
                break
            self._rest += part
        end = len(self._rest) if size < 0 else size
        found = bytes(self._rest[:end])
        del self._rest[:end]
        return found


def _reason(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode()
