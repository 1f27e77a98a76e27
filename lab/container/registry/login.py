"""Logging in: a credential is tried before it is kept."""

from __future__ import annotations

from lab.container.image.reference import DEFAULT_REGISTRY
from lab.container.registry.auth import Authorizer
from lab.container.registry.connection import Registry
from lab.container.registry.credentials import Credential
from lab.container.registry.hosts import DEFAULT_INDEX, DEFAULT_SERVER, endpoint
from lab.container.registry.session import Session
from lab.errors import SpecError

_DEFAULT_NAMES = frozenset(("", DEFAULT_REGISTRY, DEFAULT_INDEX, DEFAULT_SERVER, "registry-1.docker.io"))


def registry_name(text: str) -> str:
    """Return the registry that a server's name or URL means, as names of images have it.

    Raises:
        SpecError: it means none.
    """
    if text in _DEFAULT_NAMES:
        return DEFAULT_REGISTRY
    host = text.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if not host or any(char.isspace() or char in "@?#" for char in host):
        raise SpecError(f"not a registry: {text!r}", hint="HOST[:PORT]")
    return DEFAULT_REGISTRY if host in _DEFAULT_NAMES else host


def log_in(session: Session, name: str, credential: Credential) -> Credential:
    """Try a credential, keep what proves the same from now on, and return it: a token, if the registry gives one.

    Raises:
        RegistryError: it is refused, or the registry cannot be reached.
    """
    at = endpoint(name, session.settings)
    authorizer = Authorizer(at.host, lambda: credential, session.exchange, offline=True)
    Registry(at, session.exchange, authorizer).ask("GET", "/v2/", what=f"log in to {name}").close()
    kept = credential
    if authorizer.refresh_token:
        kept = Credential(user=credential.user, identity_token=authorizer.refresh_token)
    session.credentials.put(at.server, kept)
    return kept


def log_out(session: Session, name: str) -> bool:
    """Forget the credential for a registry, and return whether there was one."""
    return session.credentials.erase(endpoint(name, session.settings).server)
