"""One blob from the store into a repository: mounted from another one, whole, or in chunks that can be taken up again.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit

from lab.container.registry.client import Repository
from lab.container.registry.failures import TRIES, is_transient
from lab.container.registry.transport import PIECE_BYTES, Answer, Interrupted
from lab.container.spec.image import Descriptor
from lab.container.storage.blobs import BlobStore
from lab.errors import ContainerError, DigestMismatch, RegistryError

MONOLITHIC_BYTES_MAX = 16 * 1024 * 1024
CHUNK_BYTES = 64 * 1024 * 1024
"""What one request carries of a larger blob: so much is sent again at most, where a registry keeps no half chunks."""
_OCTETS = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An upload that has begun: where it goes on, after how many bytes, and the least chunk that the registry takes."""

    location: str
    offset: int = 0
    least_bytes: int = 0


def begin(repository: Repository, digest: str, mount_from: str = "") -> Session | None:
    """Begin an upload; None if the registry has mounted the blob from the repository ``mount_from``.

    Raises:
        RegistryError: it is refused.
    """
    query = f"?{urlencode({'mount': digest, 'from': mount_from})}" if mount_from else ""
    scopes = repository.pushes
    if mount_from:
        scopes = (*scopes, f"repository:{mount_from}:pull")
    url = f"/v2/{repository.path}/blobs/uploads/{query}"
    answer = repository.registry.ask(
        "POST", url, what=_what(repository, digest), scopes=scopes, repeats=True, hoped_for=(201, 202)
    )
    answer.close()
    if answer.status == 201:
        return None
    base = urljoin(repository.registry.base(), f"{repository.registry.endpoint.prefix}{url}")
    least = answer.headers.get("oci-chunk-min-length", "")
    return Session(
        location=_location(answer, base, repository),
        least_bytes=int(least) if least.isascii() and least.isdigit() else 0,
    )


def upload(blobs: BlobStore, repository: Repository, wanted: Descriptor, session: Session, progress: Progress) -> None:
    """Send a blob's bytes; a broken connection is taken up where the registry says that it ended.

    Raises:
        RegistryError: it is refused.
        DigestMismatch: the blob in the store is damaged.
    """
    if wanted.size <= MONOLITHIC_BYTES_MAX:
        _send_whole(blobs, repository, wanted, session, progress)
        return
    fruitless = 0
    while session.offset < wanted.size:
        before = session.offset
        try:
            session = _send_chunk(blobs, repository, wanted, session, progress)
        except RegistryError as error:
            if not isinstance(error, Interrupted) and error.status not in (404, 416) and not is_transient(error.status):
                raise
            fruitless += 1
            if fruitless >= TRIES:
                raise
            repository.registry.exchange.pause(fruitless)
            session = _continued(repository, wanted.digest, session)
        fruitless = fruitless if session.offset <= before else 0
    _finish(blobs, repository, wanted, session, lambda: (), 0)


def _send_whole(
    blobs: BlobStore, repository: Repository, wanted: Descriptor, session: Session, progress: Progress
) -> None:
    for attempt in range(TRIES):
        try:
            return _finish(
                blobs, repository, wanted, session, lambda: _bytes(blobs, wanted, 0, wanted.size, progress), wanted.size
            )
        except Interrupted:
            if attempt + 1 == TRIES:
                raise
            repository.registry.exchange.pause(attempt)
            if repository.has_blob(wanted.digest):
                return None
            begun = begin(repository, wanted.digest)
            assert begun is not None  # nothing was to be mounted
            session = begun
    raise AssertionError  # the last attempt returns or raises


def _finish(
    blobs: BlobStore,
    repository: Repository,
    wanted: Descriptor,
    session: Session,
    body: Callable[[], Iterator[bytes] | tuple[bytes, ...]],
    length: int,
) -> None:
    try:
        repository.registry.ask(
            "PUT",
            _with_digest(session.location, wanted.digest),
            what=_what(repository, wanted.digest),
            scopes=repository.pushes,
            headers=_OCTETS,
            body=body,
            length=length,
            hoped_for=(201, 204),
        ).close()
    except RegistryError as error:
        if error.status == 400:
            blobs.verify(wanted.digest)  # damage on disk is told as that
        raise


def _send_chunk(
    blobs: BlobStore, repository: Repository, wanted: Descriptor, session: Session, progress: Progress
) -> Session:
    start = session.offset
    length = min(max(CHUNK_BYTES, session.least_bytes), wanted.size - start)
    answer = repository.registry.ask(
        "PATCH",
        session.location,
        what=_what(repository, wanted.digest),
        scopes=repository.pushes,
        headers={**_OCTETS, "Content-Range": f"{start}-{start + length - 1}"},
        body=lambda: _bytes(blobs, wanted, start, length, progress),
        length=length,
        hoped_for=(202, 204),
    )
    answer.close()
    return _after(answer, session, repository, start + length)


def _continued(repository: Repository, digest: str, session: Session) -> Session:
    """Return where an upload is; one that the registry has forgotten begins anew."""
    answer = repository.registry.ask(
        "GET", session.location, what=_what(repository, digest), scopes=repository.pushes, hoped_for=(202, 204, 404)
    )
    answer.close()
    if answer.status == 404:
        begun = begin(repository, digest)
        assert begun is not None  # nothing was to be mounted
        return begun
    return _after(answer, session, repository, 0)


def _after(answer: Answer, session: Session, repository: Repository, otherwise: int) -> Session:
    """Return the upload as an answer tells it; "0-0" means both no byte and one, which nobody sends alone."""
    found = _RANGE.fullmatch(answer.headers.get("range", ""))
    end = int(found[1]) if found else None
    offset = otherwise if end is None else end + 1 if end else 0
    return Session(
        location=_location(answer, session.location, repository) if "location" in answer.headers else session.location,
        offset=offset,
        least_bytes=session.least_bytes,
    )


def _location(answer: Answer, base: str, repository: Repository) -> str:
    """Return the URL in the header Location, which may be relative and have a query of its own."""
    location = answer.headers.get("location", "")
    url = urljoin(base, location)
    if not location or not repository.registry.exchange.may_follow(repository.registry.base(), url):
        raise RegistryError(f"{repository.registry.host} does not say where to upload to: {location!r}")
    return url


def _with_digest(url: str, digest: str) -> str:
    parts = urlsplit(url)
    return parts._replace(query=f"{parts.query}{'&' if parts.query else ''}{urlencode({'digest': digest})}").geturl()


def _bytes(blobs: BlobStore, wanted: Descriptor, start: int, length: int, progress: Progress) -> Iterator[bytes]:
    try:
        with open(blobs.path(wanted.digest), "rb") as file:
            if os.fstat(file.fileno()).st_size != wanted.size:
                raise DigestMismatch(f"size of blob {file.name}", expected=str(wanted.size), actual="another")
            file.seek(start)
            sent = 0
            while sent < length and (data := file.read(min(PIECE_BYTES, length - sent))):
                yield data
                sent += len(data)
                progress(start + sent)
    except FileNotFoundError as error:
        raise ContainerError(f"blob {wanted.digest} is missing", hint="lab image verify") from error


def _what(repository: Repository, digest: str) -> str:
    return f"push {digest} to {repository.name}"
