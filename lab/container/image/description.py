"""An image as docker's ``image inspect`` and ``history`` tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.container.image.export import whole_descriptor
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage
from lab.container.spec.image import ExecutionConfig
from lab.container.storage.layers import LayerSource
from lab.errors import ContainerError

_NEVER = "0001-01-01T00:00:00Z"  # how Go writes a time that is not known
_MISSING = "<missing>"  # what docker calls the steps below an image, of which no image of their own is kept


def inspect_document(store: ImageStore, image: StoredImage) -> dict[str, object]:
    """Return docker's JSON object for an image, its fields in docker's order.

    Raises:
        ContainerError: a layer that has to be measured is damaged.
    """
    config, references = image.config, store.names_of(image)
    size_bytes = store.content_bytes(image)
    platform = {"Architecture": config.architecture, "Variant": config.variant, "Os": config.os}
    return {
        "Id": image.config_digest,
        "RepoTags": [reference.familiar for reference in references if not reference.digest],
        "RepoDigests": [f"{each.repository}@{each.digest}" for each in references if each.digest],
        "Parent": "",
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created or _NEVER,
        "DockerVersion": "",
        "Author": config.author,
        "Config": config_document(config.config),
        **{name: value for name, value in platform.items() if value},
        "Size": size_bytes,
        "GraphDriver": {"Data": _graph_data(store, image), "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": list(config.rootfs.diff_ids)},
        "Metadata": {"LastTagTime": _NEVER},
        "Descriptor": whole_descriptor(store.blobs, image).to_document(),
    }


def config_document(config: ExecutionConfig) -> dict[str, object]:
    """Return docker's JSON object for what an image runs by default, fields without a value included."""
    found: dict[str, object] = {
        "Hostname": "",
        "Domainname": "",
        "User": config.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": list(config.env) or None,
        "Cmd": list(config.cmd) or None,
        "Healthcheck": None if config.healthcheck is None else config.healthcheck.to_document(),
        "Image": "",
        "Volumes": {volume: {} for volume in config.volumes} or None,
        "WorkingDir": config.working_dir,
        "Entrypoint": list(config.entrypoint) or None,
        "OnBuild": list(config.on_build) or None,
        "Labels": dict(sorted(config.labels.items())) or None,
        "StopSignal": config.stop_signal,
        "Shell": list(config.shell),
    }
    optional = ("ExposedPorts", "Healthcheck", "StopSignal", "Shell")
    return {name: value for name, value in found.items() if value or name not in optional}


def _graph_data(store: ImageStore, image: StoredImage) -> Mapping[str, str]:
    directories = [store.layers.path(chain) for chain in reversed(image.chain_ids)]
    if not directories:
        return {}
    lower = {"LowerDir": ":".join(directories[1:])} if directories[1:] else {}
    return {**lower, "UpperDir": directories[0]}


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One step of an image, the last first; ``image`` is its id for the last, "<missing>" for the others."""

    image: str
    created: str
    created_by: str
    comment: str
    size_bytes: int


def history(store: ImageStore, image: StoredImage) -> tuple[HistoryEntry, ...]:
    """Return the steps of an image, the last first.

    Raises:
        ContainerError: history and layers do not belong together, or a layer is damaged.
    """
    layers = list(reversed(store.layer_sources(image)))
    filled = sum(not entry.empty_layer for entry in image.config.history)
    if filled > len(layers):
        raise ContainerError(f"image {image.config_digest} tells of {filled} layers, but has {len(layers)}")
    ids = [image.config_digest, *(_MISSING for _ in image.config.history)]
    return tuple(
        HistoryEntry(
            image=id_,
            created=entry.created,
            created_by=entry.created_by,
            comment=entry.comment,
            size_bytes=0 if entry.empty_layer else _next_size(store, layers),
        )
        for id_, entry in zip(ids, reversed(image.config.history), strict=False)
    )


def _next_size(store: ImageStore, layers: list[LayerSource]) -> int:
    return store.layers.content_bytes(layers.pop(0))
