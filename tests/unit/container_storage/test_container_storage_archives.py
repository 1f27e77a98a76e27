"""Archives of images: both forms, what is wrong with them in one sentence, and a store that is whole afterwards."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.container.image.archive import load
from lab.container.image.archive_file import open_archive
from lab.container.image.export import Exported, write_archive
from lab.container.image.packages import debian_architecture
from lab.container.image.reference import parse_reference
from lab.container.image.store import ImageStore
from lab.container.spec.image import MediaType
from lab.container.storage.compression import Compression, compressing
from lab.errors import ContainerError, DigestMismatch, LabError, SpecError

Files = Mapping[str, bytes | str]  # a text is the target of a symbolic link


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "images"), str(tmp_path / "layers"))


def tar_of(files: Files) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


LAYER = tar_of({"etc/hosts": b"127.0.0.1"})
OTHER = tar_of({"etc/motd": b"hello"})


def config_of(*layers: bytes) -> bytes:
    diff_ids = [digest(layer) for layer in layers]
    document = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    return json.dumps({**document, "unknown": {"kept": [1]}}, indent=1).encode()


def docker_files(*, tags: list[str] | None, layers: Mapping[str, bytes | str], config: bytes) -> dict[str, bytes | str]:
    manifest = [{"Config": "config.json", "RepoTags": tags, "Layers": list(layers)}]
    return {"config.json": config, "manifest.json": json.dumps(manifest).encode(), **layers}


def descriptor(data: bytes, media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def blob_name(data: bytes) -> str:
    return f"blobs/sha256/{digest(data).removeprefix('sha256:')}"


def oci_manifest(config: bytes, *layers: bytes) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": MediaType.MANIFEST,
        "config": descriptor(config, MediaType.CONFIG),
        "layers": [descriptor(layer, MediaType.LAYER) for layer in layers],
    }
    return json.dumps(document).encode()


def oci_files(*entries: dict[str, object], blobs: tuple[bytes, ...]) -> dict[str, bytes]:
    index = json.dumps({"schemaVersion": 2, "manifests": list(entries)}).encode()
    return {"index.json": index, "oci-layout": b"{}", **{blob_name(blob): blob for blob in blobs}}


def loaded(store: ImageStore, data: bytes) -> list[tuple[str, str]]:
    return [(each.name, each.image.config_digest) for each in load(store, io.BytesIO(data), "it")]


def refusal(store: ImageStore, files: Files) -> LabError:
    with pytest.raises(LabError) as caught:
        load(store, io.BytesIO(tar_of(files)), "it")
    assert store.images() == ()
    assert store.blobs.digests() == (), "a refused archive leaves nothing"
    assert "\n" not in str(caught.value)
    return caught.value


def test_an_image_in_dockers_form_keeps_the_bytes_of_its_configuration(store: ImageStore) -> None:
    config = config_of(LAYER)
    data = tar_of(docker_files(tags=["it:1", "it:2"], layers={"a/layer.tar": LAYER}, config=config))
    assert loaded(store, data) == [("it:1", digest(config)), ("it:2", digest(config))]
    assert store.blobs.read(digest(config)) == config


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_a_layer_that_is_compressed_already_is_stored_as_it_is(store: ImageStore, compression: Compression) -> None:
    buffer = io.BytesIO()
    with compressing(buffer, compression) as stream:
        stream.write(LAYER)
    layer = buffer.getvalue()
    loaded(store, tar_of(docker_files(tags=["it:1"], layers={"l.tar": layer}, config=config_of(LAYER))))
    assert store.resolve("it:1").layers[0].digest == digest(layer)


@pytest.mark.parametrize("wrap", [gzip.compress, lambda data: data])
def test_the_archive_itself_may_be_compressed_or_come_from_a_pipe(store: ImageStore, wrap: type[bytes]) -> None:
    data = tar_of(docker_files(tags=["it:1"], layers={"l.tar": LAYER}, config=config_of(LAYER)))
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as writer:
        writer.write(wrap(data))
    with os.fdopen(read_end, "rb") as reader:
        (found,) = load(store, reader, "standard input")
    assert found.name == "it:1"


def test_links_to_layers_are_followed_within_the_archive(store: ImageStore) -> None:
    layers = {"one/layer.tar": LAYER, "two/layer.tar": "../one/layer.tar"}
    loaded(store, tar_of(docker_files(tags=["it:1"], layers=layers, config=config_of(LAYER, LAYER))))
    assert len(store.resolve("it:1").layers) == 2


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "nowhere", "layer.tar"])
def test_a_link_that_leads_elsewhere_is_refused(store: ImageStore, target: str) -> None:
    files = docker_files(tags=["it:1"], layers={"one/layer.tar": target}, config=config_of(LAYER))
    assert "one/layer.tar" in str(refusal(store, files))


def test_a_layer_that_is_there_already_is_not_read_again(store: ImageStore) -> None:
    loaded(store, tar_of(docker_files(tags=["it:1"], layers={"l.tar": LAYER}, config=config_of(LAYER))))
    without = docker_files(tags=["it:2"], layers={"gone.tar": LAYER, "o.tar": OTHER}, config=config_of(LAYER, OTHER))
    del without["gone.tar"]
    loaded(store, tar_of(without))
    assert store.resolve("it:2").layers[0] == store.resolve("it:1").layers[0]


def test_an_image_whose_name_is_taken_over_is_told_and_kept(store: ImageStore) -> None:
    first = tar_of(docker_files(tags=["it:1"], layers={"l.tar": LAYER}, config=config_of(LAYER)))
    second = tar_of(docker_files(tags=["it:1"], layers={"l.tar": OTHER}, config=config_of(OTHER)))
    loaded(store, first)
    (found,) = load(store, io.BytesIO(second), "it")
    assert found.renamed_id == digest(config_of(LAYER))
    assert store.resolve(digest(config_of(LAYER))).name == ""


def test_an_image_of_an_oci_layout_keeps_its_manifest(store: ImageStore) -> None:
    config = config_of(LAYER)
    manifest = oci_manifest(config, LAYER)
    entry = descriptor(manifest, MediaType.MANIFEST, annotations={"io.containerd.image.name": "docker.io/library/it:1"})
    assert loaded(store, tar_of(oci_files(entry, blobs=(manifest, config, LAYER)))) == [("it:1", digest(config))]
    assert store.resolve("it:1").manifest_digest == digest(manifest)


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({"org.opencontainers.image.ref.name": "it:1"}, "it:1"),
        ({"org.opencontainers.image.ref.name": "docker.io/library/it:1"}, "it:1"),
        ({"org.opencontainers.image.ref.name": "latest"}, ""),
        ({"org.opencontainers.image.ref.name": "not a : name"}, ""),
        ({}, ""),
    ],
)
def test_the_name_is_what_the_layout_says(store: ImageStore, annotations: dict[str, str], name: str) -> None:
    config = config_of(LAYER)
    manifest = oci_manifest(config, LAYER)
    entry = descriptor(manifest, MediaType.MANIFEST, annotations=annotations)
    assert loaded(store, tar_of(oci_files(entry, blobs=(manifest, config, LAYER)))) == [(name, digest(config))]


def nested(architecture: str, *, whole: bool = True) -> dict[str, bytes]:
    config = config_of(LAYER)
    manifest = oci_manifest(config, LAYER)
    platform = {"architecture": architecture, "os": "linux", "variant": "v8"}
    attestation = descriptor(b"x", MediaType.MANIFEST, platform={"architecture": "unknown", "os": "unknown"})
    inner = [attestation, descriptor(manifest, MediaType.MANIFEST, platform=platform)]
    index = json.dumps({"schemaVersion": 2, "mediaType": MediaType.INDEX, "manifests": inner}).encode()
    return oci_files(descriptor(index, MediaType.INDEX), blobs=(index, *((manifest, config, LAYER) if whole else ())))


@pytest.mark.parametrize("architecture", [debian_architecture(), "vax"])
def test_an_index_is_taken_with_those_of_its_images_that_are_in_the_archive(
    store: ImageStore, architecture: str
) -> None:
    files = nested(architecture)
    assert loaded(store, tar_of(files)) == [("", digest(config_of(LAYER)))]
    (image,) = store.images()
    assert store.descriptor(image.index_digest).media_type == MediaType.INDEX
    assert blob_name(store.blobs.read(image.index_digest)) in files


def test_an_index_without_any_of_its_images_is_refused_with_what_they_are_for(store: ImageStore) -> None:
    assert "which are for linux/vax/v8" in str(refusal(store, nested("vax", whole=False)))


def test_what_holds_no_images_is_refused(store: ImageStore) -> None:
    error = refusal(store, {"etc/hosts": b"x"})
    assert isinstance(error, ContainerError)
    assert "lab import" in error.hint


BAD_DOCUMENTS = {
    "manifest.json is not JSON": {"manifest.json": b"{"},
    "manifest.json is not a list of images": {"manifest.json": b"{}"},
    "Layers in manifest.json is not a list of texts": {"manifest.json": b'[{"Config": "c", "Layers": 1}]'},
    "there is no c in it": {"manifest.json": b'[{"Config": "c", "Layers": []}]'},
    "c is not a file": {"manifest.json": b'[{"Config": "c/../../c", "Layers": []}]', "c/x": b""},
    "is too large": {"manifest.json": b"[" + b" " * (5 * 1024**2)},
    "not an image index": {"index.json": b"[]"},
    "not an OCI descriptor": {"index.json": b'{"manifests": [{"mediaType": "x", "digest": "../../x", "size": 1}]}'},
}


@pytest.mark.parametrize("reason", BAD_DOCUMENTS)
def test_a_document_that_is_none_is_named(store: ImageStore, reason: str) -> None:
    said = str(refusal(store, BAD_DOCUMENTS[reason]))
    assert reason in said or "there is no c/../../c in it" in said or "JSON object" in said


def test_a_layer_that_is_not_the_configurations_is_refused(store: ImageStore) -> None:
    error = refusal(store, docker_files(tags=["it:1"], layers={"l.tar": OTHER}, config=config_of(LAYER)))
    assert isinstance(error, DigestMismatch)


def test_more_or_fewer_layers_than_the_configuration_has_are_refused(store: ImageStore) -> None:
    error = refusal(store, docker_files(tags=["it:1"], layers={"l.tar": LAYER}, config=config_of(LAYER, OTHER)))
    assert "has 1 layers, its configuration 2" in str(error)


def test_a_blob_that_is_not_what_its_name_says_is_refused(store: ImageStore) -> None:
    config = config_of(LAYER)
    manifest = oci_manifest(config, LAYER)
    files = oci_files(descriptor(manifest, MediaType.MANIFEST), blobs=(manifest, config, LAYER))
    assert isinstance(refusal(store, files | {blob_name(LAYER): OTHER}), DigestMismatch)


def test_a_blob_that_is_missing_is_refused(store: ImageStore) -> None:
    config = config_of(LAYER)
    manifest = oci_manifest(config, LAYER)
    files = oci_files(descriptor(manifest, MediaType.MANIFEST), blobs=(manifest, config))
    assert f"there is no {blob_name(LAYER)}" in str(refusal(store, files))


def test_a_name_that_is_none_is_refused(store: ImageStore) -> None:
    error = refusal(store, docker_files(tags=["NO:1"], layers={"l.tar": LAYER}, config=config_of(LAYER)))
    assert isinstance(error, SpecError)


def test_of_entries_with_one_name_the_last_counts(store: ImageStore) -> None:
    config = config_of(LAYER)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in [
            ("config.json", b"{}"),
            *docker_files(tags=[], layers={"l": LAYER}, config=config).items(),
        ]:
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content if isinstance(content, bytes) else b""))
    assert loaded(store, data.getvalue()) == [("", digest(config))]


WHOLE = tar_of(docker_files(tags=["it:1"], layers={"l.tar": LAYER}, config=config_of(LAYER)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_refused_or_the_same_and_the_store_is_whole(data: st.DataObject) -> None:
    damaged = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    archive = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    with tempfile.TemporaryDirectory() as base:
        store = ImageStore(f"{base}/images", f"{base}/layers")
        try:
            load(store, io.BytesIO(archive), "it")
        except LabError:
            assert store.images() == ()
            assert store.blobs.digests() == ()
        assert [error for _, error in store.verify() if error] == []
        assert not os.path.isdir(store.blobs.ingest) or os.listdir(store.blobs.ingest) == []


def is_archive(data: bytes) -> bool:
    with tempfile.TemporaryDirectory() as scratch, open_archive(io.BytesIO(data), "it", scratch) as archive:
        return archive.has("manifest.json")


@given(st.binary(min_size=1, max_size=2000).filter(any))
@settings(max_examples=100, deadline=None)
def test_what_is_no_archive_is_refused_in_one_sentence(data: bytes) -> None:
    with pytest.raises(LabError, match="it"):
        is_archive(data)


def saved(store: ImageStore, *names: str) -> bytes:
    target = io.BytesIO()
    images = [Exported(image=store.resolve(name), names=(parse_reference(name),)) for name in names]
    write_archive(store.blobs, images, target)
    return target.getvalue()


def test_what_is_saved_is_the_same_bytes_each_time_and_loads_to_the_same_manifests(
    store: ImageStore, tmp_path: Path
) -> None:
    loaded(store, tar_of(docker_files(tags=["it:1"], layers={"l.tar": LAYER}, config=config_of(LAYER))))
    both = {"l.tar": LAYER, "o.tar": OTHER}
    loaded(store, tar_of(docker_files(tags=["it:2"], layers=both, config=config_of(LAYER, OTHER))))
    data = saved(store, "it:1", "it:2")
    assert saved(store, "it:1", "it:2") == data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names)), "what images share is in it once"
    other = ImageStore(str(tmp_path / "other"))
    load(other, io.BytesIO(data), "it")
    assert other.images() == store.images()


def test_a_layer_in_zstd_is_saved_decompressed_for_docker_as_well(store: ImageStore, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with compressing(buffer, Compression.ZSTD) as stream:
        stream.write(LAYER)
    layers = {"l.tar": buffer.getvalue()}
    loaded(store, tar_of(docker_files(tags=["it:1"], layers=layers, config=config_of(LAYER))))
    with tarfile.open(fileobj=io.BytesIO(saved(store, "it:1"))) as tar:
        content = tar.extractfile("manifest.json")
        assert content is not None
        (layer,) = json.load(content)[0]["Layers"]
        plain = tar.extractfile(layer)
        assert plain is not None
        assert plain.read() == LAYER
    other = ImageStore(str(tmp_path / "other"))
    load(other, io.BytesIO(saved(store, "it:1")), "it")
    assert other.resolve("it:1") == store.resolve("it:1")
