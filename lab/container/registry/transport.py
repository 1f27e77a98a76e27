"""One HTTP exchange at a time, through urllib3: no retries, no redirects, no credentials of its own.

What is under way can be cut off from another thread, so that a command that is interrupted ends at once.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError, SSLError
from urllib3.exceptions import ReadTimeoutError as ReadTimeoutError

from lab import __version__
from lab.container.registry.hosts import Proxies, Settings, is_insecure
from lab.errors import RegistryError

PIECE_BYTES = 256 * 1024
_CONNECT_TIMEOUT_S = 15.0
_CONNECTIONS = 8
_CERTIFICATE_HINT = "put the certificate of its authority into certs.d/{host}/ca.crt below the lab's root"
_SCHEME_HINT = 'a registry without TLS has to be named in "insecure-registries" of registries.json, or with --insecure'


class Interrupted(RegistryError):  # noqa: N818 - it says what happened to the transfer
    """The connection ended or stalled in the middle of an exchange, which can be tried again."""


class Unreachable(RegistryError):  # noqa: N818
    """There is no connection to this host; ``speaks_no_tls``: something answered, but not as TLS does."""

    def __init__(self, message: str, *, speaks_no_tls: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.speaks_no_tls = speaks_no_tls


class Cancelled(RegistryError):  # noqa: N818
    """The command ends: nothing more is to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked; ``body`` gives the bytes anew each time it is called, ``length`` of them.

    ``repeats``: it may be asked again when nobody knows whether it came through, as GET and HEAD may always.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], Iterable[bytes]] | None = None
    length: int = 0
    repeats: bool = False


class Answer:
    """A registry's answer, its body not yet read; to be closed."""

    def __init__(self, response: urllib3.BaseHTTPResponse, host: str) -> None:
        self._response = response
        self._host = host
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        self.challenges: tuple[str, ...] = tuple(response.headers.getlist("www-authenticate"))

    def __enter__(self) -> Answer:
        """Return the answer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the connection up."""
        self.close()

    def pieces(self) -> Iterator[bytes]:
        """Give the body as it comes.

        Raises:
            Interrupted: it stalled, or ended too early.
        """
        try:
            yield from self._response.stream(PIECE_BYTES)
        except ReadTimeoutError as error:
            raise Interrupted(f"{self._host} sent nothing for too long") from error
        except (HTTPError, OSError, AttributeError, ValueError) as error:  # the last two: closed by another thread
            raise Interrupted(f"the connection to {self._host} broke: {_reason(error)}") from error

    def body(self, limit_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            Interrupted: it stalled, or ended too early.
            RegistryError: it is longer than allowed.
        """
        data = bytearray()
        for piece in self.pieces():
            data += piece
            if len(data) > limit_bytes:
                raise RegistryError(f"the answer of {self._host} is longer than {limit_bytes} bytes")
        return bytes(data)

    def close(self) -> None:
        """Give the connection up, for the next exchange if the body has been read."""
        if self._response.length_remaining in (0, None) and not self._response.chunked:
            with suppress(HTTPError, OSError):
                self._response.drain_conn()
        self._response.close()


class Transport:
    """Connections to registries; of several threads' use at once."""

    def __init__(self, settings: Settings, proxies: Proxies) -> None:
        self._settings = settings
        self._proxies = proxies
        self._pools: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Cut off what is under way, and refuse what would follow."""
        self._cancelled.set()
        with self._lock:
            sockets = tuple(self._sockets)
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # which wakes up whoever waits for it

    def close(self) -> None:
        """End all connections."""
        self.cancel()
        for pool in self._pools.values():
            pool.clear()

    def wait(self, seconds: float) -> None:
        """Let time pass before something is tried again.

        Raises:
            Cancelled: the command ends.
        """
        if self._cancelled.wait(seconds):
            raise Cancelled("cancelled")

    def send(self, request: Request) -> Answer:
        """Return the answer to a request, whatever its status.

        Raises:
            Unreachable: there is no connection.
            Interrupted: the connection broke before there was an answer.
            Cancelled: the command ends.
        """
        self.wait(0)
        host = urlsplit(request.url).netloc
        try:
            response = self._pool(request.url).request(
                request.method,
                request.url,
                headers=_headers(request),
                body=None if request.body is None else request.body(),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except HTTPError as error:
            raise self._failure(host, error) from error
        except OSError as error:
            raise Interrupted(f"the connection to {host} broke: {_reason(error)}") from error
        return Answer(response, host)

    def _note(self, connected: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connected)

    def _failure(self, host: str, error: HTTPError) -> RegistryError:
        if isinstance(error, ProxyError):
            return Unreachable(f"cannot reach {host} through the proxy: {_reason(error)}")
        if isinstance(error, SSLError):
            return _tls_failure(host, _reason(error))
        if isinstance(error, NewConnectionError):  # before the next, which it is as well
            return Unreachable(f"cannot reach {host}: {_reason(error)}")
        if isinstance(error, ConnectTimeoutError):
            return Unreachable(f"cannot reach {host}: no answer within {_CONNECT_TIMEOUT_S:g} s")
        if isinstance(error, ReadTimeoutError):
            return Interrupted(f"{host} has not answered within {self._settings.timeout_s:g} s")
        return Interrupted(f"the connection to {host} broke: {_reason(error)}")

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = self._proxies.proxy(parts.scheme, parts.netloc)
        with self._lock:
            key = (proxy, parts.netloc)
            if key not in self._pools:
                self._pools[key] = self._new_pool(proxy, parts.netloc)
            return self._pools[key]

    def _new_pool(self, proxy: str, host: str) -> urllib3.PoolManager:
        context = _tls_context(host, self._settings.certificates, verifies=not is_insecure(host, self._settings))
        timeout = urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=self._settings.timeout_s)
        if not proxy:
            return self._watched(urllib3.PoolManager(maxsize=_CONNECTIONS, timeout=timeout, ssl_context=context))
        parts = urlsplit(proxy)
        headers = (
            urllib3.make_headers(proxy_basic_auth=f"{parts.username}:{parts.password}") if parts.username else None
        )
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return self._watched(
            urllib3.ProxyManager(
                plain, maxsize=_CONNECTIONS, timeout=timeout, ssl_context=context, proxy_headers=headers
            )
        )

    def _watched(self, manager: urllib3.PoolManager) -> urllib3.PoolManager:
        manager.pool_classes_by_scheme = _pools_that_note(self._note)
        return manager


def _pools_that_note(note: Callable[[socket.socket], None]) -> dict[str, type[HTTPConnectionPool]]:
    """Return urllib3's pools with connections that tell of their sockets."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            note(self.sock)

    class Encrypted(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            note(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}


def _headers(request: Request) -> dict[str, str]:
    found = {"User-Agent": f"lab/{__version__}", "Accept-Encoding": "identity", **request.headers}
    return (
        found
        if request.body is None and request.method in ("GET", "HEAD")
        else {
            **found,
            "Content-Length": str(request.length),
        }
    )


def _tls_context(host: str, directories: Iterable[str], *, verifies: bool) -> ssl.SSLContext:
    """Return how to speak TLS to a host, with docker's certs.d: its authorities, and certificates of ours."""
    context = ssl.create_default_context()
    if not verifies:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for directory in (os.path.join(each, host) for each in directories):
        try:
            for name in sorted(os.listdir(directory)):
                path = os.path.join(directory, name)
                if name.endswith(".crt"):
                    context.load_verify_locations(path)
                elif name.endswith(".cert"):
                    context.load_cert_chain(path, path.removesuffix("cert") + "key")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:  # ssl.SSLError is one
            raise RegistryError(f"certificates in {directory}: {error.strerror or error}") from error
    return context


def _tls_failure(host: str, reason: str) -> Unreachable:
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason or "record layer" in reason.lower():
        return Unreachable(f"{host} does not speak TLS", speaks_no_tls=True, hint=_SCHEME_HINT)
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return Unreachable(
            f"the certificate of {host} is not valid here: {_detail(reason)}", hint=_CERTIFICATE_HINT.format(host=host)
        )
    return Unreachable(f"no TLS with {host}: {reason}")


def _detail(reason: str) -> str:
    return reason.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or reason


def _reason(error: BaseException) -> str:
    """Return the innermost reason, without the names of Python's objects."""
    while isinstance(inner := error.__cause__ or (error.args[-1] if error.args else None), BaseException):
        error = inner
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.rpartition(">: ")[2]
