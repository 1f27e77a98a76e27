"""An image of the store in the forms that other tools read."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from lab.container.spec.image import REF_NAME, Descriptor, Index, layout_json, to_canonical_json
from lab.container.storage import durable
from lab.container.storage.blobs import READ_BYTES, BlobStore
from lab.errors import KernelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What is exported: the name that it gets, and the descriptors of its parts; layers are lowest first."""

    name: str
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]


def write_docker_archive(blobs: BlobStore, image: Exported, path: str) -> None:
    """Write the archive that ``docker load`` and ``podman load`` take; layers stay compressed, as both allow.

    Raises:
        KernelError: it could not be written; nothing is left at ``path``.
        DigestMismatch: a blob is damaged; nothing is left at ``path``.
    Source: https://github.com/moby/docker-image-spec, "Combined Image JSON + Filesystem Changeset Format".
    """
    config_name = image.config.digest.removeprefix("sha256:") + ".json"
    layer_names = [layer.digest.removeprefix("sha256:") + ".tar" for layer in image.layers]
    entry = {"Config": config_name, "RepoTags": [_tagged(image.name)], "Layers": layer_names}
    with _replacing(path) as temporary, tarfile.open(temporary, "w") as tar:
        _add_blob(tar, blobs, image.config, config_name)
        for layer, name in zip(image.layers, layer_names, strict=True):
            if name not in tar.getnames():  # two equal layers are one file
                _add_blob(tar, blobs, layer, name)
        _add_bytes(tar, b"[" + to_canonical_json(entry) + b"]", "manifest.json")


def write_oci_layout(blobs: BlobStore, image: Exported, directory: str) -> None:
    """Write an OCI layout with this one image, named ``image.name``; blobs that are there already stay.

    Raises:
        KernelError: it could not be written.
        DigestMismatch: a blob is damaged.
    """
    target = BlobStore(directory)
    try:
        os.makedirs(directory, exist_ok=True)
        for part in (*image.layers, image.config, image.manifest):
            _copy_blob(blobs, target, part.digest)
        named = Descriptor(
            media_type=image.manifest.media_type,
            digest=image.manifest.digest,
            size=image.manifest.size,
            annotations={REF_NAME: image.name},
        )
        durable.write_atomically(os.path.join(directory, "oci-layout"), layout_json())
        durable.write_atomically(os.path.join(directory, "index.json"), Index(manifests=(named,)).to_json())
    except OSError as error:
        raise KernelError("write", directory, os.strerror(error.errno or 0)) from error


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


@contextmanager
def _replacing(path: str) -> Iterator[str]:
    temporary = f"{path}.{os.getpid()}.new"
    try:
        yield temporary
        os.rename(temporary, path)
    except OSError as error:
        raise KernelError("write", path, os.strerror(error.errno or 0)) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _copy_blob(source: BlobStore, target: BlobStore, digest: str) -> None:
    if target.has(digest):
        return
    with source.reading(digest) as reader, target.writing() as writer:
        while data := reader.read(READ_BYTES):
            writer.write(data)
        reader.finish()  # before the writer's block ends, which would make it a blob


def _add_blob(tar: tarfile.TarFile, blobs: BlobStore, part: Descriptor, name: str) -> None:
    header = tarfile.TarInfo(name)
    header.size = part.size
    with blobs.reading(part.digest) as reader:
        tar.addfile(header, reader)


def _add_bytes(tar: tarfile.TarFile, data: bytes, name: str) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))
