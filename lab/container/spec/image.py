"""The OCI image documents: descriptor, manifest, index, configuration and layout, field for field.

Attributes are the specification's names in snake case (``mediaType`` is ``media_type``). ``to_json`` gives canonical
bytes (sorted keys, no spaces), so that the same document always has the same digest; what was pulled is never written
anew, since its digest is that of the bytes as they came. Source: https://github.com/opencontainers/image-spec.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import cast

from lab.errors import ContainerError
from lab.units import Nanoseconds

LAYOUT_VERSION = "1.0.0"
SCHEMA_VERSION = 2
REF_NAME = "org.opencontainers.image.ref.name"  # annotation of an index entry: the image's name
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Document = Mapping[str, object]


class MediaType(StrEnum):
    """The media types that the lab writes; docker's own are understood when read."""

    INDEX = "application/vnd.oci.image.index.v1+json"
    MANIFEST = "application/vnd.oci.image.manifest.v1+json"
    CONFIG = "application/vnd.oci.image.config.v1+json"
    LAYER = "application/vnd.oci.image.layer.v1.tar"
    LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
    LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What an image is for, as entries of an index tell it."""

    architecture: str
    os: str
    variant: str = ""

    def __str__(self) -> str:
        """Return docker's spelling: "linux/arm64/v8"."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def to_document(self) -> dict[str, object]:
        """Return the JSON object, without empty fields."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_document(cls, document: object) -> Platform:
        """Return the platform in a parsed JSON object."""
        source = _object(document, "platform")
        return cls(
            architecture=_text(source, "architecture"), os=_text(source, "os"), variant=_text(source, "variant", "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A reference to content: what it is, its digest, and its size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None

    def to_document(self) -> dict[str, object]:
        """Return the JSON object of this descriptor."""
        found: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        found |= {"annotations": dict(self.annotations)} if self.annotations else {}
        return found | ({"platform": self.platform.to_document()} if self.platform is not None else {})

    @classmethod
    def from_document(cls, document: object) -> Descriptor:
        """Return the descriptor in a parsed JSON object.

        Raises:
            ContainerError: it is not one.
        """
        source = _object(document, "descriptor")
        digest = _text(source, "digest")
        size = source.get("size")
        if not is_digest(digest) or not isinstance(size, int) or size < 0:
            raise ContainerError(f"not an OCI descriptor: digest {digest!r}, size {size!r}")
        return cls(
            media_type=_text(source, "mediaType"),
            digest=digest,
            size=size,
            annotations=_text_map(source, "annotations"),
            platform=Platform.from_document(source["platform"]) if source.get("platform") else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image for one platform: its configuration and its layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = MediaType.MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the canonical bytes of this manifest."""
        document: dict[str, object] = {
            "schemaVersion": SCHEMA_VERSION,
            "mediaType": self.media_type,
            "config": self.config.to_document(),
            "layers": [layer.to_document() for layer in self.layers],
        }
        return to_canonical_json(document | ({"annotations": dict(self.annotations)} if self.annotations else {}))

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Return the manifest in ``data``.

        Raises:
            ContainerError: it is not one.
        """
        source = _parse(data, "image manifest")
        return cls(
            config=Descriptor.from_document(source.get("config")),
            layers=tuple(Descriptor.from_document(layer) for layer in _list(source, "layers")),
            media_type=_text(source, "mediaType", MediaType.MANIFEST),
            annotations=_text_map(source, "annotations"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A list of manifests; as ``index.json`` of a layout each entry may carry a name in ``REF_NAME``."""

    manifests: tuple[Descriptor, ...] = ()
    media_type: str = MediaType.INDEX

    def to_json(self) -> bytes:
        """Return the canonical bytes of this index."""
        manifests = [manifest.to_document() for manifest in self.manifests]
        return to_canonical_json(
            {"schemaVersion": SCHEMA_VERSION, "mediaType": self.media_type, "manifests": manifests}
        )

    @classmethod
    def from_json(cls, data: bytes) -> Index:
        """Return the index in ``data``.

        Raises:
            ContainerError: it is not one.
        """
        source = _parse(data, "image index")
        return cls(
            manifests=tuple(Descriptor.from_document(entry) for entry in _list(source, "manifests")),
            media_type=_text(source, "mediaType", MediaType.INDEX),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RootFS:
    """The layers' digests before compression (diff ids), lowest first."""

    diff_ids: tuple[str, ...]
    type: str = "layers"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How one layer (or an empty step) came to be; ``created`` is RFC 3339."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False

    def to_document(self) -> dict[str, object]:
        """Return the JSON object of this entry, without empty fields."""
        found = {
            "created": self.created,
            "created_by": self.created_by,
            "author": self.author,
            "comment": self.comment,
            "empty_layer": self.empty_layer,
        }
        return {name: value for name, value in found.items() if value}

    @classmethod
    def from_document(cls, document: object) -> History:
        """Return the history entry in a parsed JSON object."""
        source = _object(document, "history entry")
        return cls(
            created=_text(source, "created", ""),
            created_by=_text(source, "created_by", ""),
            author=_text(source, "author", ""),
            comment=_text(source, "comment", ""),
            empty_layer=source.get("empty_layer") is True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """How to find out whether a container works; ``test`` begins with NONE, CMD or CMD-SHELL, times are nanoseconds.

    Docker's extension of the specification; 0 stands for the default.
    """

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    def to_document(self) -> dict[str, object]:
        """Return the JSON object, without empty fields."""
        found: dict[str, object] = {
            "Test": list(self.test),
            "Interval": Nanoseconds(self.interval),
            "Timeout": Nanoseconds(self.timeout),
            "StartPeriod": Nanoseconds(self.start_period),
            "StartInterval": Nanoseconds(self.start_interval),
            "Retries": self.retries,
        }
        return {name: value for name, value in found.items() if value}

    @classmethod
    def from_document(cls, document: object) -> Healthcheck | None:
        """Return the check in a parsed JSON object; null is none."""
        if document is None:
            return None
        source = _object(document, "Healthcheck")
        return cls(
            test=_texts(source, "Test"),
            interval=_number(source, "Interval"),
            timeout=_number(source, "Timeout"),
            start_period=_number(source, "StartPeriod"),
            start_interval=_number(source, "StartInterval"),
            retries=_number(source, "Retries"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionConfig:
    """The ``config`` object of an image configuration: defaults for whoever runs the image.

    ``healthcheck``, ``on_build`` and ``shell`` are docker's extensions.
    """

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()

    def to_document(self) -> dict[str, object]:
        """Return the JSON object, without empty fields."""
        found: dict[str, object] = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in self.exposed_ports},
            "Env": list(self.env),
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.cmd),
            "Volumes": {volume: {} for volume in self.volumes},
            "WorkingDir": self.working_dir,
            "Labels": dict(self.labels),
            "StopSignal": self.stop_signal,
            "Healthcheck": None if self.healthcheck is None else self.healthcheck.to_document(),
            "OnBuild": list(self.on_build),
            "Shell": list(self.shell),
        }
        return {name: value for name, value in found.items() if value}

    @classmethod
    def from_document(cls, document: object) -> ExecutionConfig:
        """Return the defaults in a parsed JSON object; null stands for absent, as docker writes it."""
        source = _object(document or {}, "config of an image")
        return cls(
            user=_text(source, "User", ""),
            exposed_ports=tuple(_object(source.get("ExposedPorts") or {}, "ExposedPorts")),
            env=_texts(source, "Env"),
            entrypoint=_texts(source, "Entrypoint"),
            cmd=_texts(source, "Cmd"),
            volumes=tuple(_object(source.get("Volumes") or {}, "Volumes")),
            working_dir=_text(source, "WorkingDir", ""),
            labels=_text_map(source, "Labels"),
            stop_signal=_text(source, "StopSignal", ""),
            healthcheck=Healthcheck.from_document(source.get("Healthcheck")),
            on_build=_texts(source, "OnBuild"),
            shell=_texts(source, "Shell"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """An image's configuration; its digest is the image id that docker shows."""

    architecture: str
    os: str
    rootfs: RootFS
    created: str = ""
    author: str = ""
    variant: str = ""
    config: ExecutionConfig = field(default_factory=ExecutionConfig)
    history: tuple[History, ...] = ()

    def to_json(self) -> bytes:
        """Return the canonical bytes of this configuration."""
        optional = {"created": self.created, "author": self.author, "variant": self.variant}
        return to_canonical_json(
            {
                "architecture": self.architecture,
                "os": self.os,
                "config": self.config.to_document(),
                "rootfs": {"type": self.rootfs.type, "diff_ids": list(self.rootfs.diff_ids)},
                "history": [entry.to_document() for entry in self.history],
            }
            | {name: value for name, value in optional.items() if value}
        )

    @classmethod
    def from_json(cls, data: bytes) -> ImageConfig:
        """Return the configuration in ``data``.

        Raises:
            ContainerError: it is not one.
        """
        source = _parse(data, "image configuration")
        rootfs = _object(source.get("rootfs"), "rootfs")
        return cls(
            architecture=_text(source, "architecture"),
            os=_text(source, "os"),
            rootfs=RootFS(diff_ids=_diff_ids(rootfs), type=_text(rootfs, "type", "layers")),
            created=_text(source, "created", ""),
            author=_text(source, "author", ""),
            variant=_text(source, "variant", ""),
            config=ExecutionConfig.from_document(source.get("config")),
            history=tuple(History.from_document(entry) for entry in _list(source, "history")),
        )


def is_digest(text: str) -> bool:
    """Return whether ``text`` is a digest that the lab can check: "sha256:" and 64 hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def to_canonical_json(document: Document) -> bytes:
    """Return ``document`` as JSON with sorted keys and no spaces: one document, one digest."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def layout_json() -> bytes:
    """Return the content of the file ``oci-layout``."""
    return to_canonical_json({"imageLayoutVersion": LAYOUT_VERSION})


def _parse(data: bytes, what: str) -> Document:
    try:
        return _object(json.loads(data), what)
    except (ValueError, RecursionError) as error:
        raise ContainerError(f"not an {what}: {error}") from error


def _object(value: object, what: str) -> Document:
    if not isinstance(value, dict):
        raise ContainerError(f"{what} is not a JSON object")
    return cast(Document, value)  # cast: JSON objects have text keys


def _list(source: Document, key: str) -> Sequence[object]:
    value = source.get(key) or []
    if not isinstance(value, list):
        raise ContainerError(f"{key} is not a JSON array")
    return value


def _text(source: Document, key: str, default: str | None = None) -> str:
    value = source.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise ContainerError(f"{key} is not a JSON string")
    return value


def _number(source: Document, key: str) -> int:
    value = source.get(key) or 0
    if not isinstance(value, int):
        raise ContainerError(f"{key} is not an integer")
    return value


def _texts(source: Document, key: str) -> tuple[str, ...]:
    values = _list(source, key)
    if not all(isinstance(value, str) for value in values):
        raise ContainerError(f"{key} is not an array of strings")
    return tuple(str(value) for value in values)


def _text_map(source: Document, key: str) -> Mapping[str, str]:
    found = _object(source.get(key) or {}, key)
    if not all(isinstance(value, str) for value in found.values()):
        raise ContainerError(f"{key} has a value that is not a string")
    return {name: str(value) for name, value in found.items()}


def _diff_ids(rootfs: Document) -> tuple[str, ...]:
    diff_ids = _texts(rootfs, "diff_ids")
    if not all(is_digest(diff_id) for diff_id in diff_ids):
        raise ContainerError("rootfs.diff_ids has an entry that is not a sha256 digest")
    return diff_ids
