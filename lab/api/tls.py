"""TCP, with TLS on both sides: only who shows a certificate of the given authority is a client.

Whoever may connect has all rights of the server's user, so there is no TCP without client certificates.
Source: docs.docker.com/engine/security/protect-access, whose flags and files these are.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from lab.api.http import ClientGone
from lab.api.server import BACKLOG, Listener
from lab.errors import KernelError, SpecError

_HANDSHAKE_S = 10
_DEFAULT_PORT = 2376
_HINT = "give --tlsverify, --tlscacert, --tlscert and --tlskey; a unix socket can be forwarded by ssh instead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Files in PEM: the authority that clients' certificates are of, the server's own certificate, and its key."""

    authority: str
    certificate: str
    key: str


def listen(host: str, certificates: Certificates | None) -> Listener:
    """Return what listens at "tcp://ADDRESS[:PORT]", to clients with a certificate only.

    Raises:
        SpecError: the address is none, there are no certificates, or a file of them is not what it should be.
        KernelError: it cannot listen there.
    """
    address, port = address_of(host)
    if certificates is None:
        raise SpecError(f"{host}: TCP is served with client certificates only", hint=_HINT)
    context = _context(certificates)

    def secure(client: socket.socket) -> socket.socket:
        client.settimeout(_HANDSHAKE_S)
        try:
            found = context.wrap_socket(client, server_side=True)
        except OSError as error:  # an alert has told it why
            raise ClientGone from error
        found.settimeout(None)
        return found

    return Listener(listening=_bound(host, address, port), secure=secure)


def address_of(host: str) -> tuple[str, int]:
    """Return the address and the port of "tcp://ADDRESS[:PORT]".

    Raises:
        SpecError: it is something else.
    """
    parts = urlsplit(host)
    try:
        address, port = parts.hostname, parts.port
    except ValueError:
        address, port = None, None
    if parts.scheme != "tcp" or not address or parts.path not in ("", "/"):
        raise SpecError(f"{host} is no address to listen at", hint="write tcp://ADDRESS:PORT")
    return address, _DEFAULT_PORT if port is None else port


def _context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(certificates.authority)
        context.load_cert_chain(certificates.certificate, certificates.key)
    except OSError as error:  # an SSLError is one as well, and names no file
        files = ", ".join((certificates.authority, certificates.certificate, certificates.key))
        raise SpecError(f"cannot use the certificates in {files}: {error.strerror or error}", hint=_HINT) from error
    return context


def _bound(host: str, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise KernelError.of("listen at", host, error) from error
