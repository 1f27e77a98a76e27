"""Pushing: whole, in chunks, by mounting, and what is made of a registry that does not go along."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.registry.scripted import Reply, Scripted, Seen, Watched, scripted_registry, session_with

from lab.container.image.reference import parse_reference
from lab.container.image.store import ImageStore, StoredImage
from lab.container.registry import upload
from lab.container.registry.hosts import Settings
from lab.container.registry.progress import Step
from lab.container.registry.push import Pushed, push
from lab.container.spec.image import Descriptor, ImageConfig, MediaType, RootFS
from lab.container.storage.pack import Layer
from lab.errors import ContainerError, DigestMismatch, ImageNotFound, RegistryError

LARGE = random.Random(2).randbytes(100_000)


@pytest.fixture
def registry() -> Iterator[Scripted]:
    with scripted_registry() as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "images"))


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make everything above a few bytes large, and chunks small."""
    monkeypatch.setattr(upload, "MONOLITHIC_BYTES_MAX", 1000)
    monkeypatch.setattr(upload, "CHUNK_BYTES", 30_000)


def _add(store: ImageStore, name: str, data: bytes = LARGE) -> StoredImage:
    digest = store.blobs.add(data)
    layer = Layer(
        descriptor=Descriptor(media_type=MediaType.LAYER_GZIP, digest=digest, size=len(data)),
        diff_id="sha256:" + f"{len(data):064x}",
    )
    config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(diff_ids=(layer.diff_id,)))
    return store.add(name, config, [layer])


def _push(
    store: ImageStore, tmp_path: Path, name: str, watched: Watched | None = None, settings: Settings | None = None
) -> Pushed:
    with session_with(tmp_path, settings) as session:
        return push(session, store, parse_reference(name), watched or Watched())


def _complete(registry: Scripted, image: StoredImage) -> bool:
    wanted = {image.layers[0].digest, image.config_digest}
    return wanted <= registry.blobs.keys() and registry.blobs[image.layers[0].digest] == LARGE


def test_small_layers_go_in_one_request_and_the_manifest_last(
    registry: Scripted, store: ImageStore, tmp_path: Path
) -> None:
    image = _add(store, f"{registry.host}/up:1")
    watched = Watched()
    pushed = _push(store, tmp_path, f"{registry.host}/up:1", watched)
    assert _complete(registry, image)
    assert registry.seen[-1].method == "PUT"
    assert registry.seen[-1].path == "/v2/up/manifests/1"
    assert registry.manifests["1"] == (MediaType.MANIFEST, store.blobs.read(image.manifest_digest))
    assert registry.asked("PATCH", "") == []
    assert watched.steps_of(image.config.rootfs.diff_ids[0]) == [Step.PREPARING, Step.PUSHING, Step.PUSHED]
    assert f"{registry.host}/up@{pushed.digest}" in map(str, store.names_of(image))


def test_the_query_of_a_location_is_kept_as_it_is(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    _add(store, f"{registry.host}/up:1")
    _push(store, tmp_path, f"{registry.host}/up:1")
    assert all("?_state=a%2Bb&digest=sha256%3A" in seen.path for seen in registry.asked("PUT", "/uploads/"))


def test_large_layers_go_in_chunks(registry: Scripted, store: ImageStore, tmp_path: Path, chunked: None) -> None:
    image = _add(store, f"{registry.host}/up:1")
    _push(store, tmp_path, f"{registry.host}/up:1")
    assert _complete(registry, image)
    ranges = [seen.headers["content-range"] for seen in registry.asked("PATCH", "")]
    assert ranges == ["0-29999", "30000-59999", "60000-89999", "90000-99999"]


def test_a_registry_may_ask_for_larger_chunks(
    registry: Scripted, store: ImageStore, tmp_path: Path, chunked: None
) -> None:
    image = _add(store, f"{registry.host}/up:1")

    def larger(seen: Seen) -> Reply | None:
        reply = registry.well_behaved(seen)
        return Reply(reply.status, reply.body, {**reply.headers, "OCI-Chunk-Min-Length": "60000"})

    registry.fault = larger
    _push(store, tmp_path, f"{registry.host}/up:1")
    assert _complete(registry, image)
    assert [seen.headers["content-range"] for seen in registry.asked("PATCH", "")] == ["0-59999", "60000-99999"]


def test_a_push_goes_on_where_the_registry_says_that_it_was_cut(
    registry: Scripted, store: ImageStore, tmp_path: Path, chunked: None
) -> None:
    image = _add(store, f"{registry.host}/up:1")
    cuts = [10_000, 45_000]

    def cut(seen: Seen) -> Reply | None:
        name = seen.path.partition("?")[0].rpartition("/")[2]
        if seen.method != "PATCH" or not cuts:
            return None
        registry.uploads[name] += seen.body[: cuts.pop(0) - len(registry.uploads[name])]
        return Reply(status=0)

    registry.fault = cut
    _push(store, tmp_path, f"{registry.host}/up:1")
    assert _complete(registry, image)
    assert len(registry.asked("GET", "/uploads/")) == 2


def test_an_upload_that_the_registry_has_forgotten_begins_anew(
    registry: Scripted, store: ImageStore, tmp_path: Path, chunked: None
) -> None:
    image = _add(store, f"{registry.host}/up:1")
    forgets = [True]

    def forgetful(seen: Seen) -> Reply | None:
        is_old = "/uploads/0?" in seen.path and seen.method in ("PATCH", "GET")
        if is_old and len(registry.uploads["0"]) and forgets:
            return Reply(status=404)
        return None

    registry.fault = forgetful
    _push(store, tmp_path, f"{registry.host}/up:1")
    assert _complete(registry, image)


def test_a_chunk_that_is_out_of_order_is_sent_from_where_it_should_be(
    registry: Scripted, store: ImageStore, tmp_path: Path, chunked: None
) -> None:
    image = _add(store, f"{registry.host}/up:1")
    refusals = [416]
    registry.fault = lambda seen: Reply(status=refusals.pop()) if seen.method == "PATCH" and refusals else None
    _push(store, tmp_path, f"{registry.host}/up:1")
    assert _complete(registry, image)


def test_a_registry_that_takes_nothing_is_given_up(
    registry: Scripted, store: ImageStore, tmp_path: Path, chunked: None
) -> None:
    _add(store, f"{registry.host}/up:1")
    registry.fault = lambda seen: Reply(status=0) if seen.method == "PATCH" else None
    with pytest.raises(RegistryError, match=f"the connection to {registry.host} broke"):
        _push(store, tmp_path, f"{registry.host}/up:1")
    assert len(registry.asked("PATCH", "")) == 5
    assert registry.manifests == {}


def test_a_whole_layer_whose_connection_breaks_is_sent_again(
    registry: Scripted, store: ImageStore, tmp_path: Path
) -> None:
    image = _add(store, f"{registry.host}/up:1")
    left = [0]
    registry.fault = lambda seen: (
        Reply(status=left.pop()) if seen.method == "PUT" and "/uploads/" in seen.path and left else None
    )
    _push(store, tmp_path, f"{registry.host}/up:1")
    assert _complete(registry, image)


@pytest.mark.parametrize(("method", "part"), [("POST", "/uploads/"), ("PUT", "/manifests/"), ("HEAD", "/blobs/")])
def test_what_may_be_asked_twice_is_asked_again_when_the_connection_breaks(
    registry: Scripted, store: ImageStore, tmp_path: Path, method: str, part: str
) -> None:
    image = _add(store, f"{registry.host}/up:1")
    left = [0]
    registry.fault = lambda seen: (
        Reply(status=left.pop()) if seen.method == method and part in seen.path and left else None
    )
    _push(store, tmp_path, f"{registry.host}/up:1")
    assert _complete(registry, image)
    assert not left
    assert "1" in registry.manifests


def test_what_the_registry_has_is_not_sent_again(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    image = _add(store, f"{registry.host}/up:1")
    _push(store, tmp_path, f"{registry.host}/up:1")
    registry.seen.clear()
    watched = Watched()
    _push(store, tmp_path, f"{registry.host}/up:1", watched)
    assert watched.steps_of(image.config.rootfs.diff_ids[0]) == [Step.PREPARING, Step.THERE]
    assert registry.asked("POST", "") == []


@pytest.mark.parametrize(
    ("status", "step"), [(201, Step.MOUNTED), (202, Step.PUSHED), (404, Step.PUSHED), (403, Step.PUSHED)]
)
def test_a_layer_of_another_repository_is_mounted_where_the_registry_can(
    registry: Scripted, store: ImageStore, tmp_path: Path, status: int, step: Step
) -> None:
    image = _add(store, f"{registry.host}/team/first:1")
    _push(store, tmp_path, f"{registry.host}/team/first:1")
    store.tag(f"{registry.host}/team/first:1", f"{registry.host}/up:1")

    def other_repository(seen: Seen) -> Reply | None:
        if "mount=" in seen.path:
            assert f"mount={image.layers[0].digest.replace(':', '%3A')}&from=team%2Ffirst" in seen.path
            return Reply(status=status, headers={"Location": "/v2/up/blobs/uploads/0"})
        return Reply(status=404) if seen.method == "HEAD" else None

    registry.fault = other_repository
    watched = Watched()
    diff_id = image.config.rootfs.diff_ids[0]
    _push(store, tmp_path, f"{registry.host}/up:1", watched)
    assert watched.steps_of(diff_id)[-1] == step
    if step is Step.MOUNTED:
        assert watched.details[diff_id] == "team/first"


@pytest.mark.parametrize("location", ["", "http://198.51.100.1/upload", "file:///etc/passwd"])
def test_a_layer_is_not_sent_just_anywhere(
    registry: Scripted, store: ImageStore, tmp_path: Path, location: str
) -> None:
    _add(store, f"{registry.host}/up:1")
    with session_with(tmp_path) as session:
        registry.fault = lambda seen: (
            Reply(status=202, headers={"Location": location}) if seen.method == "POST" else None
        )
        with pytest.raises(RegistryError, match="does not say where to upload to"):
            push(session, store, parse_reference(f"{registry.host}/up:1"), Watched())


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_sent_again(registry: Scripted, store: ImageStore, tmp_path: Path, status: int) -> None:
    image = _add(store, f"{registry.host}/up:1")
    left = {"POST": 2, "PUT": 3}

    def busy(seen: Seen) -> Reply | None:
        if not left.get(seen.method):
            return None
        left[seen.method] -= 1
        return Reply(status=status, headers={"Retry-After": "0"})

    registry.fault = busy
    _push(store, tmp_path, f"{registry.host}/up:1")
    assert _complete(registry, image)
    assert left == {"POST": 0, "PUT": 0}


@pytest.mark.parametrize("part", ["/blobs/uploads/", "/manifests/"])
def test_a_registry_that_stalls_in_the_middle_is_given_up(
    registry: Scripted, store: ImageStore, tmp_path: Path, part: str
) -> None:
    _add(store, f"{registry.host}/up:1")
    silence = Reply(status=0, stall=True)
    registry.fault = lambda seen: silence if seen.method == "PUT" and part in seen.path else None
    with pytest.raises(RegistryError, match="has not answered within"):
        _push(store, tmp_path, f"{registry.host}/up:1", settings=Settings(timeout_s=0.1))
    assert registry.manifests == {}


def test_a_registry_that_has_stored_something_else_is_told(
    registry: Scripted, store: ImageStore, tmp_path: Path
) -> None:
    _add(store, f"{registry.host}/up:1")
    lie = Reply(status=201, headers={"Docker-Content-Digest": "sha256:" + "0" * 64})
    registry.fault = lambda seen: lie if "/manifests/" in seen.path else None
    with pytest.raises(DigestMismatch, match=f"manifest that {registry.host} stored"):
        _push(store, tmp_path, f"{registry.host}/up:1")
    assert not any(name.digest for name in store.names_of(store.resolve(f"{registry.host}/up:1")))


def test_html_instead_of_a_registry_is_told(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    _add(store, f"{registry.host}/up:1")
    page = Reply(body=b"<html>log in to this network</html>", headers={"Content-Type": "text/html"})
    registry.fault = lambda seen: None if seen.method == "HEAD" else page
    with pytest.raises(RegistryError, match=f"{registry.host} answered 200: text/html, which is no answer"):
        _push(store, tmp_path, f"{registry.host}/up:1")
    assert registry.manifests == {}


def test_redirects_in_a_loop_end(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    _add(store, f"{registry.host}/up:1")
    registry.fault = lambda seen: (
        Reply(status=307, headers={"Location": seen.path}) if seen.method in ("POST", "HEAD") else None
    )
    with pytest.raises(RegistryError, match="redirects in a loop"):
        _push(store, tmp_path, f"{registry.host}/up:1")


def test_a_refused_manifest_is_told_with_its_reason(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    _add(store, f"{registry.host}/up:1")
    body = b'{"errors":[{"code":"DENIED","message":"tag is immutable"}]}'
    registry.fault = lambda seen: Reply(status=403, body=body) if "/manifests/" in seen.path else None
    with pytest.raises(RegistryError, match=re.escape("answered 403: denied: tag is immutable")):
        _push(store, tmp_path, f"{registry.host}/up:1")
    assert not any(name.digest for name in store.names_of(store.resolve(f"{registry.host}/up:1")))


def test_a_damaged_layer_is_told_as_that(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    image = _add(store, f"{registry.host}/up:1")
    path = Path(store.blobs.path(image.layers[0].digest))
    path.write_bytes(bytes(len(LARGE)))
    registry.fault = lambda seen: (
        Reply(status=400, body=b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        if seen.method == "PUT" and "/uploads/" in seen.path
        else None
    )
    with pytest.raises(DigestMismatch, match="expected"):
        _push(store, tmp_path, f"{registry.host}/up:1")
    path.unlink()
    with pytest.raises(ContainerError, match="is missing"):
        _push(store, tmp_path, f"{registry.host}/up:1")


def test_an_image_that_is_not_there_cannot_be_pushed(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound):
        _push(store, tmp_path, f"{registry.host}/up:1")
    assert registry.seen == []
