"""A repository of a registry, in the requests of the OCI distribution specification.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit

from lab.container.image.indexes import INDEXES
from lab.container.registry.auth import Scopes
from lab.container.registry.connection import OK, Registry
from lab.container.registry.failures import reason_of
from lab.container.registry.transport import Answer
from lab.container.spec.image import MediaType, is_digest
from lab.container.storage.blobs import DOCUMENT_LIMIT_BYTES
from lab.errors import DigestMismatch, RegistryError

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFESTS = (MediaType.MANIFEST.value, DOCKER_MANIFEST)
_ACCEPTED = (*MANIFESTS, *INDEXES)
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_PAGES_MAX = 10_000
_PAGE_ENTRIES = 1000
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(?:\d+|\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A manifest or an index as it came."""

    media_type: str
    digest: str
    data: bytes


class Repository:
    """One repository; ``path`` is its name within the registry."""

    def __init__(self, registry: Registry, path: str) -> None:
        self.registry = registry
        self.path = path
        self.pulls: Scopes = (f"repository:{path}:pull",)
        self.pushes: Scopes = (f"repository:{path}:pull,push",)

    @property
    def name(self) -> str:
        """The name with the registry's host, for errors."""
        return f"{self.registry.host}/{self.path}"

    def manifest(self, reference: str) -> Document:
        """Return the manifest or index with this tag or digest, its digest checked.

        Raises:
            RegistryError: there is none, or what came is none.
            DigestMismatch: what came is another one.
        """
        headers = {"Accept": ", ".join(_ACCEPTED)}
        what = f"pull {self._called(reference)}"
        with self._asked(
            "GET",
            f"/v2/{self.path}/manifests/{reference}",
            what=what,
            headers=headers,
            hoped_for=(200, 404),
        ) as answer:
            data = answer.body(DOCUMENT_LIMIT_BYTES)
        if answer.status == 404:
            reason = reason_of(data, answer.headers.get("content-type", "")) or "not found"
            raise RegistryError(f"manifest for {self._called(reference)} not found: {reason}", status=404)
        media_type = self._media_type(answer.headers.get("content-type", ""), data, what)
        actual = f"sha256:{hashlib.sha256(data).hexdigest()}"
        promised = answer.headers.get("docker-content-digest", "")
        for expected in (reference, promised):
            if is_digest(expected) and expected != actual:
                raise DigestMismatch(f"manifest {self._called(reference)}", expected=expected, actual=actual)
        return Document(media_type=media_type, digest=actual, data=data)

    def _asked(
        self, method: str, path: str, *, what: str, headers: Mapping[str, str], hoped_for: tuple[int, ...]
    ) -> Answer:
        """Ask for what may be somebody else's secret: whether there is such a repository is not told then."""
        try:
            return self.registry.ask(method, path, what=what, scopes=self.pulls, headers=headers, hoped_for=hoped_for)
        except RegistryError as error:
            if error.status not in (401, 403):
                raise
            told = f"pull access denied for {self.name}, repository does not exist or may require 'lab login': {error}"
            raise RegistryError(told, status=error.status, hint=error.hint) from error

    def _media_type(self, content_type: str, data: bytes, what: str) -> str:
        """Return what the manifest is: what it says itself, else what its header says."""
        told = content_type.partition(";")[0].strip().lower()
        try:
            document: object = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise RegistryError(f"{what}: {self.registry.host} gave {told or 'something'} and no manifest") from error
        own = document.get("mediaType") if isinstance(document, dict) else None
        found = own if isinstance(own, str) and own else told
        if found.startswith(_SCHEMA_1) or (isinstance(document, dict) and document.get("schemaVersion") == 1):
            raise RegistryError(
                f"{what}: its manifest is of docker's first version, which nothing understands any more"
            )
        if found not in _ACCEPTED:
            raise RegistryError(f"{what}: {self.registry.host} gave {found or 'something'}, which is no image")
        return found

    def blob(self, digest: str, offset: int) -> tuple[Answer, int]:
        """Return the answer whose body is a blob's bytes, and at which of them it begins: at ``offset`` or at 0.

        Raises:
            RegistryError: there is no such blob.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self.registry.ask(
            "GET",
            f"/v2/{self.path}/blobs/{digest}",
            what=f"get {digest} of {self.name}",
            scopes=self.pulls,
            headers=headers,
            hoped_for=(200, 206, 416) if offset else OK,
        )
        if answer.status == 416:  # what is there already is not the beginning of it
            answer.close()
            return self.blob(digest, 0)
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "")) if answer.status == 206 else None
        if answer.status == 206 and (found is None or int(found[1]) != offset):
            answer.close()
            return self.blob(digest, 0)
        return answer, offset if answer.status == 206 else 0

    def tags(self) -> tuple[str, ...]:
        """Return all tags.

        Raises:
            RegistryError: there is no such repository.
        """
        listed = pages(self.registry, f"/v2/{self.path}/tags/list", f"list tags of {self.name}", self.pulls)
        try:
            return tuple(str(tag) for page in listed for tag in _list(page, "tags"))
        except RegistryError as error:
            if error.status != 404:
                raise
            raise RegistryError(f"repository {self.name} not found: {error}", status=404) from error

    def has_blob(self, digest: str) -> bool:
        """Return whether the repository has a blob."""
        answer = self.registry.ask(
            "HEAD",
            f"/v2/{self.path}/blobs/{digest}",
            what=f"push {digest} to {self.name}",
            scopes=self.pushes,
            hoped_for=(200, 404),
        )
        answer.close()
        return answer.status == 200

    def has_manifest(self, digest: str) -> bool:
        """Return whether the repository has a manifest or index."""
        answer = self.registry.ask(
            "HEAD",
            f"/v2/{self.path}/manifests/{digest}",
            what=f"push {digest} to {self.name}",
            scopes=self.pushes,
            headers={"Accept": ", ".join(_ACCEPTED)},
            hoped_for=(200, 404),
        )
        answer.close()
        return answer.status == 200

    def put_manifest(self, reference: str, document: Document) -> None:
        """Store a manifest or index, whose blobs are there, under a tag or digest.

        Raises:
            RegistryError: it is refused.
        """
        answer = self.registry.ask(
            "PUT",
            f"/v2/{self.path}/manifests/{reference}",
            what=f"push {self._called(reference)}",
            scopes=self.pushes,
            headers={"Content-Type": document.media_type},
            body=lambda: (document.data,),
            length=len(document.data),
            repeats=True,
            hoped_for=(200, 201, 202),
        )
        answer.close()
        promised = answer.headers.get("docker-content-digest", "")
        if is_digest(promised) and promised != document.digest:
            raise DigestMismatch(
                f"manifest that {self.registry.host} stored", expected=document.digest, actual=promised
            )

    def _called(self, reference: str) -> str:
        return f"{self.name}{'@' if is_digest(reference) else ':'}{reference}"


def pages(registry: Registry, path: str, what: str, scopes: Scopes) -> Iterator[Mapping[str, object]]:
    """Give the pages of a list.

    Raises:
        RegistryError: it is refused, is no list, or does not end.
    """
    url = f"{path}?{urlencode({'n': _PAGE_ENTRIES})}"
    for _ in range(_PAGES_MAX):
        with registry.ask("GET", url, what=what, scopes=scopes) as answer:
            page = _object(answer.body(DOCUMENT_LIMIT_BYTES), registry.host, what)
        yield page
        following = _NEXT.search(answer.headers.get("link", ""))
        if following is None:
            return
        url = _same_host(registry, urljoin(urljoin(registry.base(), url), following[1]))
    raise RegistryError(f"{what}: {registry.host} gives a list without an end")


def _same_host(registry: Registry, url: str) -> str:
    if urlsplit(url)[:2] != urlsplit(registry.base())[:2]:
        raise RegistryError(f"{registry.host} continues a list at {urlsplit(url).netloc}")
    return url


def _object(data: bytes, host: str, what: str) -> Mapping[str, object]:
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise RegistryError(f"{what}: {host} gave no list")
    return document


def _list(page: Mapping[str, object], key: str) -> list[object]:
    value = page.get(key)
    return value if isinstance(value, list) else []
