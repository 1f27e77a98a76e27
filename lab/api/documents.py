"""The documents of docker's lists, which are shorter than those of its inspects.

Source: docs.docker.com/reference/api/engine, "List containers", "List images", "Get data usage information".
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from lab.container import inspection, port_bindings
from lab.container.containers import Container, Containers
from lab.container.disk_usage import Usage
from lab.container.image.filters import instant_ns
from lab.container.image.reference import Reference
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage
from lab.container.listing import ImagesByName
from lab.container.spec.runtime import Spec
from lab.container.volumes import description
from lab.container.volumes.store import VolumeStore
from lab.errors import NoSuchVolume
from lab.units import NS_PER_S

_NONE = "<none>"
_UNKNOWN = -1  # docker's word for a number that nobody has asked for


def container(found: Container, images: ImagesByName, spec: Spec, sizes: tuple[int, int] | None) -> dict[str, object]:
    """Return a container as docker lists it; ``sizes`` are its own bytes, and those of all its files."""
    whole = inspection.document(found, spec, inspection.Facts())
    settings, host = whole["NetworkSettings"], whole["HostConfig"]
    assert isinstance(settings, dict), "it is an object"
    assert isinstance(host, dict), "it is an object"
    return {
        "Id": found.id,
        "Names": [f"/{found.name}"],
        "Image": images.name_of(found),
        "ImageID": found.record.image_id,
        "Command": command(found.record.args),
        "Created": found.record.created_ns // NS_PER_S,
        "Ports": list(ports(inspection.listening_ports(found), inspection.bindings(found))),
        **({name: size for name, size in zip(("SizeRw", "SizeRootFs"), sizes, strict=True) if size} if sizes else {}),
        "Labels": inspection.labels(found),
        "State": found.status,
        "Status": inspection.status_text(found, time.time_ns()),
        "HostConfig": {"NetworkMode": host["NetworkMode"]},
        "NetworkSettings": {"Networks": settings["Networks"]},
        "Mounts": whole["Mounts"],
    }


def command(args: tuple[str, ...]) -> str:
    """Return a command as docker's list has it: words with spaces in quotes."""
    program, *rest = args
    return " ".join((program, *(f"'{word}'" if " " in word else word for word in rest)))


def ports(
    exposed: Iterable[port_bindings.ContainerPort], bindings: port_bindings.Bindings
) -> Iterator[dict[str, object]]:
    """Give the ports of a list, the published ones with where they are."""
    for port in exposed:
        inner = {"PrivatePort": port.number, "Type": port.protocol}
        if not bindings.get(port):
            yield inner
        for host in bindings.get(port, ()):
            address = host.address or port_bindings.ANY
            yield {"IP": address, "PrivatePort": port.number, "PublicPort": host.number, "Type": port.protocol}


def image(
    store: ImageStore,
    found: StoredImage,
    names: Iterable[Reference],
    *,
    shared_bytes: int = _UNKNOWN,
    containers: int = _UNKNOWN,
) -> dict[str, object]:
    """Return an image as docker lists it, with the names that are asked for.

    Raises:
        ContainerError: a layer that has to be measured is damaged.
    """
    called = tuple(names)
    size_bytes = store.content_bytes(found)
    tags = [name.familiar for name in called if not name.digest]
    digests = [f"{name.repository}@{name.digest}" for name in called if name.digest]
    return {
        "Containers": containers,
        "Created": (instant_ns(found.config.created) or 0) // NS_PER_S,
        "Id": found.config_digest,
        "Labels": dict(sorted(found.config.config.labels.items())) or None,
        "ParentId": "",
        "RepoDigests": digests or ([f"{_NONE}@{_NONE}"] if not tags else None),
        "RepoTags": tags or ([f"{_NONE}:{_NONE}"] if not digests else None),
        "SharedSize": shared_bytes,
        "Size": size_bytes,
        "VirtualSize": size_bytes,
    }


def disk_usage(containers: Containers, usage: Usage) -> dict[str, object]:
    """Return what takes how much of the disk."""
    store, images = containers.images, ImagesByName(containers)
    sizes = {each.image.config_digest: each.size_bytes for each in usage.images}
    load = containers.engine.directory.load_spec
    cache = {
        "ID": "steps",
        "Parent": "",
        "Type": "regular",
        "Description": f"{usage.cache_entries} steps of builds",
        "InUse": False,
        "Shared": False,
        "Size": usage.cache_bytes,
        "CreatedAt": "0001-01-01T00:00:00Z",
        "LastUsedAt": None,
        "UsageCount": 0,
    }
    return {
        "LayersSize": usage.layers_bytes,
        "Images": [
            image(
                store,
                each.image,
                store.names_of(each.image),
                shared_bytes=each.shared_bytes,
                containers=each.containers,
            )
            for each in usage.images
        ],
        "Containers": [
            container(
                each.container,
                images,
                load(each.container.id),
                (each.size_bytes, each.size_bytes + sizes.get(each.container.record.image_id, 0)),
            )
            for each in usage.containers
        ],
        "Volumes": list(_volumes(containers, usage)),
        "BuildCache": [cache] if usage.cache_bytes else [],
        "BuilderSize": usage.cache_bytes,
    }


def _volumes(containers: Containers, usage: Usage) -> Iterator[Mapping[str, object]]:
    store = VolumeStore(containers.paths)
    for each in usage.volumes:
        try:
            document = description.document(store.get(each.name), store.data(each.name))
        except NoSuchVolume:  # it has just been removed
            continue
        yield {**document, "UsageData": {"RefCount": each.links, "Size": each.size_bytes}}
