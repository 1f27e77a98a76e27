"""Which hosts a registry's name means, how they are reached, and what of that the user has said; pure.

The file ``registries.json`` has the keys of docker's ``daemon.json``: ``registry-mirrors``, ``insecure-registries``.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lab.container.image.reference import DEFAULT_REGISTRY
from lab.errors import SpecError

DEFAULT_HOST = "registry-1.docker.io"
DEFAULT_INDEX = "index.docker.io"
DEFAULT_SERVER = "https://index.docker.io/v1/"
"""What credentials for docker's own registry are filed under."""
TIMEOUT_S = 60.0
BACKOFF_S = 0.5
_KEYS = {"registry-mirrors": "mirrors", "insecure-registries": "insecure"}
_TIMEOUT_KEY = "timeout-seconds"
_PORT = re.compile(r"(?P<name>.+?)(?::(?P<port>[0-9]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user has said about registries: URLs of mirrors, and hosts or networks that may be insecure.

    ``certificates`` are directories with one directory per host. A registry that sends nothing for ``timeout_s`` has
    failed; what failed is tried again after ``backoff_s``, then after twice as long each time.
    """

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    timeout_s: float = TIMEOUT_S
    backoff_s: float = BACKOFF_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One host that speaks for a registry, and the schemes to try, in order.

    ``prefix`` is the path of a mirror's URL. ``server`` is what its credentials are filed under.
    """

    host: str
    schemes: tuple[str, ...] = ("https",)
    prefix: str = ""
    server: str = ""
    is_mirror: bool = False


def parse_settings(data: bytes, *, path: str, certificates: tuple[str, ...] = ()) -> Settings:
    """Return the settings in the file ``path``.

    Raises:
        SpecError: it is not JSON, or a value is not what its key promises.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise SpecError(f"not JSON: {error}", path=path) from error
    if not isinstance(document, dict):
        raise SpecError("not a JSON object", path=path)
    unknown = sorted(document.keys() - {*_KEYS, _TIMEOUT_KEY})
    if unknown:
        raise SpecError(f"unknown key '{unknown[0]}'", path=path, hint=f"known: {', '.join((*_KEYS, _TIMEOUT_KEY))}")
    lists = {name: _texts(document, key, path) for key, name in _KEYS.items()}
    for mirror in lists["mirrors"]:
        _require_url(mirror, path)
    return Settings(
        mirrors=lists["mirrors"],
        insecure=lists["insecure"],
        certificates=certificates,
        timeout_s=_seconds(document, path),
    )


def _texts(document: Mapping[str, object], key: str, path: str) -> tuple[str, ...]:
    values = document.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise SpecError(f"{key} is not a list of strings", path=path)
    return tuple(values)


def _seconds(document: Mapping[str, object], path: str) -> float:
    value = document.get(_TIMEOUT_KEY, TIMEOUT_S)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise SpecError(f"{_TIMEOUT_KEY} is not a number above 0", path=path)
    return float(value)


def _require_url(text: str, path: str) -> None:
    parts = urlsplit(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.netloc
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise SpecError(f"not a mirror's URL: {text!r}", path=path, hint="https://HOST[:PORT]")


def endpoints(registry: str, settings: Settings) -> tuple[Endpoint, ...]:
    """Return where to pull from, in this order: mirrors, which stand for docker's registry only, then the registry."""
    mirrors = settings.mirrors if registry == DEFAULT_REGISTRY else ()
    return (*(_mirror(url) for url in mirrors), endpoint(registry, settings))


def endpoint(registry: str, settings: Settings) -> Endpoint:
    """Return the registry itself."""
    if registry == DEFAULT_REGISTRY:
        return Endpoint(host=DEFAULT_HOST, server=DEFAULT_SERVER)
    schemes = ("https", "http") if is_insecure(registry, settings) else ("https",)
    return Endpoint(host=registry, schemes=schemes, server=registry)


def _mirror(url: str) -> Endpoint:
    parts = urlsplit(url)
    return Endpoint(
        host=parts.netloc,
        schemes=(parts.scheme,),
        prefix=parts.path.rstrip("/"),
        server=parts.netloc,
        is_mirror=True,
    )


def is_insecure(host: str, settings: Settings) -> bool:
    """Return whether a host may be spoken to without a valid certificate, or without any: loopback, and what was said.

    Source: https://docs.docker.com/reference/cli/dockerd/#insecure-registries.
    """
    name = host_name(host)
    return is_loopback(name) or any(_matches(entry, host, name) for entry in settings.insecure)


def is_loopback(name: str) -> bool:
    """Return whether a host's name or address means this machine."""
    address = _address(name)
    return name == "localhost" or name.endswith(".localhost") or (address is not None and address.is_loopback)


def host_name(host: str) -> str:
    """Return a host without its port, and without an IPv6 address's brackets."""
    found = _PORT.fullmatch(host)
    return (found["name"] if found else host).strip("[]")


def _matches(entry: str, host: str, name: str) -> bool:
    if "/" not in entry:
        return entry in (host, name)
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    address = _address(name)
    return address is not None and address in network


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """Proxies by scheme, and the hosts that are reached without one, as the environment gives them."""

    by_scheme: Mapping[str, str]
    no_proxy: str = ""

    def proxy(self, scheme: str, host: str) -> str:
        """Return the proxy for a host, "" for none; this machine never needs one."""
        name = host_name(host)
        if is_loopback(name) or any(_bypasses(entry.strip(), host, name) for entry in self.no_proxy.split(",")):
            return ""
        found = self.by_scheme.get(scheme, "")
        return found if not found or "://" in found else f"http://{found}"


def _bypasses(entry: str, host: str, name: str) -> bool:
    """Return whether an entry of NO_PROXY means the host. Source: Go's golang.org/x/net/http/httpproxy."""
    if not entry:
        return False
    suffix = entry.removeprefix("*").lower()
    if entry == "*" or _matches(entry, host, name):
        return True
    return name.lower().endswith(suffix if suffix.startswith(".") else f".{suffix}")
