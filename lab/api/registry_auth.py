"""The credentials that clients send along: they count for their request alone, and the server's own never do; pure.

Source: docs.docker.com/reference/api/engine, "Authentication".
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from lab.api import fields
from lab.api.fields import Document
from lab.container.registry.credentials import Credential, CredentialFile
from lab.container.registry.hosts import DEFAULT_SERVER
from lab.container.registry.session import Session, session
from lab.errors import SpecError
from lab.paths import Paths


class GivenCredentials(CredentialFile):
    """Credentials of one request, in the place of a file of them."""

    def __init__(self, given: Mapping[str, Credential]) -> None:
        """``given`` has them by the servers that they are for; "" stands for any."""
        super().__init__("")
        self._given = given

    def get(self, server: str) -> Credential:
        """Return the credential for a server, an empty one if there is none."""
        return self._given.get(host_of(server)) or self._given.get("") or Credential()

    def put(self, server: str, credential: Credential) -> None:
        """Keep nothing: it is the client's to keep."""


@contextmanager
def given_session(paths: Paths, given: Mapping[str, Credential]) -> Iterator[Session]:
    """Give a session with registries that has the credentials of a request, and no others.

    Raises:
        SpecError: registries.json is wrong.
    """
    with session(paths) as found:
        yield replace(found, credentials=GivenCredentials(given))


def host_of(server: str) -> str:
    """Return the host that a server's name or URL means."""
    if server in ("", "docker.io", "index.docker.io", DEFAULT_SERVER):
        return "index.docker.io"
    return server.removeprefix("https://").removeprefix("http://").partition("/")[0]


def of_header(text: str) -> dict[str, Credential]:
    """Return the credential in X-Registry-Auth, for whatever server the request speaks to.

    Raises:
        SpecError: it is none.
    """
    found = credential(_decoded(text, "X-Registry-Auth"))
    return {"": found} if found else {}


def of_config_header(text: str) -> dict[str, Credential]:
    """Return the credentials in X-Registry-Config, by their hosts.

    Raises:
        SpecError: it has none.
    """
    document = _decoded(text, "X-Registry-Config")
    return {host_of(server): credential(fields.object_of(document, server)) for server in document}


def credential(document: Document) -> Credential:
    """Return the credential in a document of docker's.

    Raises:
        SpecError: a field has not the right type.
    """
    return Credential(
        user=fields.text(document, "username"),
        password=fields.text(document, "password"),
        identity_token=fields.text(document, "identitytoken"),
        registry_token=fields.text(document, "registrytoken"),
    )


def _decoded(text: str, header: str) -> Document:
    if not text:
        return {}
    padded = text + "=" * (-len(text) % 4)
    try:
        found = json.loads(base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True))
    except (binascii.Error, ValueError):
        raise SpecError(f"invalid {header} header: it is no JSON in base64") from None
    if found is not None and not isinstance(found, dict):
        raise SpecError(f"invalid {header} header: an object is expected")
    return found or {}
