"""What one command needs to speak to registries: settings, credentials, proxies and connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lab import paths as environment
from lab.container.image.reference import Reference
from lab.container.registry.auth import Authorizer
from lab.container.registry.client import Repository
from lab.container.registry.connection import Registry
from lab.container.registry.credentials import Credential, CredentialFile
from lab.container.registry.exchange import Exchange
from lab.container.registry.hosts import Endpoint, Proxies, Settings, endpoint, endpoints, parse_settings
from lab.container.registry.transport import Transport
from lab.paths import Paths

DOCKERS_CERTIFICATES = "/etc/docker/certs.d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Registries as this user reaches them."""

    settings: Settings
    credentials: CredentialFile
    exchange: Exchange

    def repositories(self, reference: Reference) -> tuple[Repository, ...]:
        """Return the repository at each place where it may be had: mirrors, then the registry itself."""
        places = endpoints(reference.registry, self.settings)
        return tuple(Repository(self.registry(each), reference.path) for each in places)

    def repository(self, reference: Reference) -> Repository:
        """Return the repository at the registry itself."""
        return Repository(self.registry(endpoint(reference.registry, self.settings)), reference.path)

    def registry(self, at: Endpoint, credential: Credential | None = None, *, offline: bool = False) -> Registry:
        """Return a registry, with the credential that is kept for it unless another is given."""
        authorizer = Authorizer(
            at.host,
            (lambda: self.credentials.get(at.server)) if credential is None else (lambda: credential),
            self.exchange,
            offline=offline,
        )
        return Registry(at, self.exchange, authorizer)


@contextmanager
def session(paths: Paths, *, insecure: tuple[str, ...] = ()) -> Iterator[Session]:
    """Give a session; what is under way is cut off if the block fails. ``insecure`` hosts are those of this command.

    Raises:
        SpecError: registries.json is wrong.
    """
    found = read_settings(paths)
    settings = replace(found, insecure=(*found.insecure, *insecure))
    given = environment.proxies()
    transport = Transport(settings, Proxies(by_scheme=given, no_proxy=given.get("no", "")))
    try:
        yield Session(
            settings=settings,
            credentials=CredentialFile(environment.docker_config()),
            exchange=Exchange(transport, settings),
        )
    finally:
        transport.close()


def read_settings(paths: Paths) -> Settings:
    """Return what the user has said about registries.

    Raises:
        SpecError: the file is wrong.
    """
    certificates = (DOCKERS_CERTIFICATES, paths.certificates)
    try:
        with open(paths.registries, "rb") as file:
            return parse_settings(file.read(), path=paths.registries, certificates=certificates)
    except FileNotFoundError:
        return Settings(certificates=certificates)
