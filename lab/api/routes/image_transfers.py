"""/images/create, load, get, push and /distribution: images from and to registries, archives and files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from lab.api import registry_auth
from lab.api.call import Call, Routes
from lab.api.http import Answer, BodyStream, document
from lab.api.json_stream import JsonStream, TransferLines
from lab.api.refusals import words_of
from lab.container import event_actors
from lab.container.image import chosen
from lab.container.image.archive import load as load_archive
from lab.container.image.export import write_archive
from lab.container.image.importing import ImportWishes, downloading, import_image, is_url
from lab.container.image.reference import Reference, parse_reference
from lab.container.image.store import ImageStore
from lab.container.registry.credentials import Credential
from lab.container.registry.pull import all_tags
from lab.container.registry.transfers import fetch_noted, names_to_push, send_noted, warn_of_another_platform
from lab.errors import LabError, SpecError

_TAR = "application/x-tar"
_STDIN = "-"


def create(call: Call) -> None:
    """Pull an image, or make one of a tar of files.

    Raises:
        ClientGone: the client has gone.
    """
    stream = JsonStream(call.connection)
    try:
        if call.query.text("fromSrc"):
            _import(call, stream)
        else:
            _pull(call, stream)
    except LabError as error:
        stream.fail(error, words_of(error))
    else:
        stream.end()


def _pull(call: Call, stream: JsonStream) -> None:
    name, tag = call.query.text("fromImage"), call.query.text("tag")
    separator = "@" if ":" in tag else ":"
    reference = parse_reference(f"{name}{separator}{tag}" if tag else name)
    every = not tag and ":" not in name.rpartition("/")[2] and "@" not in name
    given, platform = _credentials(call), call.query.text("platform")
    with registry_auth.given_session(call.paths, given) as registries:
        for each in all_tags(registries, reference) if every else (reference,):
            lines = TransferLines(stream)
            pulled = fetch_noted(call.paths, ImageStore.open(call.paths), registries, each, platform, lines)
            if platform:
                warn_of_another_platform(pulled, each, platform, lines)


def _credentials(call: Call) -> dict[str, Credential]:
    return registry_auth.of_header(call.headers.get("x-registry-auth", ""))


def _import(call: Call, stream: JsonStream) -> None:
    source, repository, tag = (call.query.text(name) for name in ("fromSrc", "repo", "tag"))
    name = parse_reference(f"{repository}:{tag}" if tag else repository).familiar if repository else ""
    wishes = ImportWishes(
        name=name,
        message=call.query.text("message") or f"Imported from {source}",
        changes=[line for text in call.query.texts("changes") for line in text.splitlines() if line],
        created_s=int(time.time()),
    )
    with _source(call, source, stream) as archive:
        image = import_image(ImageStore.open(call.paths), archive, "the archive", wishes)
    stream.write({"status": image.config_digest})


@contextmanager
def _source(call: Call, source: str, stream: JsonStream) -> Iterator[BinaryIO]:
    if source == _STDIN:
        yield _body(call)
        return
    url = source if is_url(source) else f"http://{source}"
    with downloading(url) as answer:
        stream.write({"status": f"Downloading from {url}"})
        yield answer


def _body(call: Call) -> BinaryIO:
    return cast(BinaryIO, BodyStream(call.connection))  # the engine only reads it


def load(call: Call) -> None:
    """Store the images of an archive.

    Raises:
        ClientGone: the client has gone.
    """
    stream = JsonStream(call.connection)
    try:
        for loaded in load_archive(ImageStore.open(call.paths), _body(call), "the archive", unpack=os.geteuid() == 0):
            image_id = loaded.image.config_digest
            attributes = {**loaded.image.config.config.labels, "name": image_id}
            event_actors.note_image(call.paths.run, "load", image_id, attributes)
            if loaded.renamed_id:
                told = f"already exists, renaming the old one with ID {loaded.renamed_id} to empty string"
                stream.write({"stream": f"The image {loaded.name} {told}\n"})
            told = f"Loaded image: {loaded.name}" if loaded.name else f"Loaded image ID: {image_id}"
            stream.write({"stream": f"{told}\n"})
    except LabError as error:
        stream.fail(error, words_of(error))
    else:
        stream.end()


def save(call: Call) -> None:
    """Send images as one archive.

    Raises:
        ClientGone: the client has gone.
    """
    asked = (call.name,) if "name" in call.names else call.query.texts("names")
    if not asked:
        raise SpecError("no image is named")
    store = ImageStore.open(call.paths)
    images = chosen.exported(store, asked)
    call.connection.begin(_TAR)
    write_archive(store.blobs, images, call.connection)
    call.connection.end()


def push(call: Call) -> None:
    """Send an image to its registry.

    Raises:
        ClientGone: the client has gone.
    """
    stream = JsonStream(call.connection)
    tag = call.query.text("tag")
    reference = parse_reference(f"{call.name}:{tag}" if tag else call.name)
    try:
        _push(call, stream, reference, every=not tag and ":" not in call.name.rpartition("/")[2])
    except LabError as error:
        stream.fail(error, words_of(error))
    else:
        stream.end()


def _push(call: Call, stream: JsonStream, reference: Reference, *, every: bool) -> None:
    if reference.digest:
        raise SpecError("cannot push a digest reference")
    store, lines = ImageStore.open(call.paths), TransferLines(stream)
    lines.told(f"The push refers to repository [{reference.registry}/{reference.path}]")
    with registry_auth.given_session(call.paths, _credentials(call)) as registries:
        for each in names_to_push(store, reference, all_tags=every):
            pushed = send_noted(call.paths, store, registries, each, lines)
            aux = {"Tag": each.tag, "Digest": pushed.digest, "Size": pushed.size_bytes}
            stream.write({"progressDetail": {}, "aux": aux})


def distribution(call: Call) -> Answer:
    """Tell what a registry has under a name."""
    reference = parse_reference(call.name)
    with registry_auth.given_session(call.paths, _credentials(call)) as registries:
        found = registries.repository(reference).manifest(reference.digest or reference.tag)
    entries = json.loads(found.data).get("manifests") or []
    platforms = [each["platform"] for each in entries if isinstance(each.get("platform"), dict)]
    descriptor = {"mediaType": found.media_type, "digest": found.digest, "size": len(found.data)}
    return document({"Descriptor": descriptor, "Platforms": platforms})


ROUTES: Routes = {
    ("POST", "/images/create"): create,
    ("POST", "/images/load"): load,
    ("GET", "/images/get"): save,
    ("GET", "/images/{name*}/get"): save,
    ("POST", "/images/{name*}/push"): push,
    ("GET", "/distribution/{name*}/json"): distribution,
}
