"""Names of images: ``[host[:port]/]path[:tag][@digest]``, with docker's defaults filled in.

Source: https://pkg.go.dev/github.com/distribution/reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab.errors import SpecError

DEFAULT_REGISTRY = "docker.io"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
_NAME_BYTES_MAX = 255
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A normalised image name; ``tag`` and ``digest`` are "" where not given."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def familiar(self) -> str:
        """The short form that docker shows: without the default registry and namespace."""
        return self.repository + self._suffix()

    @property
    def repository(self) -> str:
        """The short form without tag and digest."""
        name = f"{self.registry}/{self.path}"
        if self.registry == DEFAULT_REGISTRY:
            name = self.path.removeprefix(f"{DEFAULT_NAMESPACE}/")
            if "/" in name and self.path.startswith(f"{DEFAULT_NAMESPACE}/"):
                name = self.path
        return name

    def __str__(self) -> str:
        """Return the full form."""
        return f"{self.registry}/{self.path}{self._suffix()}"

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Return the reference in ``text``; without tag and digest the tag is ``latest``.

    Raises:
        SpecError: the text is not a reference.
    """
    if _IDENTIFIER.fullmatch(text):
        raise SpecError(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    named, at, digest = text.partition("@")
    registry, path, tag = _split(named)
    if path != path.lower():
        raise SpecError(f"invalid reference format: repository name ({path}) must be lowercase")
    valid = _REGISTRY.fullmatch(registry) and _PATH.fullmatch(path) and len(f"{registry}/{path}") <= _NAME_BYTES_MAX
    if not valid or (tag is not None and not _TAG.fullmatch(tag)) or (at and not _DIGEST.fullmatch(digest)):
        raise SpecError(f"invalid reference format: {text!r}")
    return Reference(registry=registry, path=path, tag=tag or ("" if at else DEFAULT_TAG), digest=digest)


def _split(named: str) -> tuple[str, str, str | None]:
    first, slash, rest = named.partition("/")
    is_host = bool(slash) and (any(char in first for char in ".:") or first == "localhost" or first != first.lower())
    registry, remainder = (first, rest) if is_host else (DEFAULT_REGISTRY, named)
    path, colon, tag = remainder.partition(":")
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = f"{DEFAULT_NAMESPACE}/{path}"
    return registry, path, tag if colon else None
