"""Docker's documents as templates see them: of Go's types, whose fields are there even where JSON leaves them out.

``{{if .State.Health}}`` is asked of containers without a health check too, and is false there, where a map would have
no such key. A shape says what a document's fields are when nothing is said of them; those that it does not name stay as
they come. Source: the types of https://pkg.go.dev/github.com/docker/docker/api/types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.cli.template_values import NIL, NIL_MAP, NIL_SLICE, Struct, Value
from lab.units import Nanoseconds


@dataclass(frozen=True, slots=True)
class Fields:
    """An object: its fields with their shapes, or with their values when nothing is said."""

    fields: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Pointer:
    """An object that need not be there."""

    to: Fields


@dataclass(frozen=True, slots=True)
class Each:
    """A list or a map of objects."""

    of: Fields


def container_or_image(document: Value) -> Value:
    """Return what `inspect` shows of a container or an image, typed."""
    is_image = isinstance(document, Mapping) and "RootFS" in document
    return typed(document, IMAGE if is_image else CONTAINER)


def volume(document: Value) -> Value:
    """Return what `volume inspect` shows, typed."""
    return typed(document, VOLUME)


def typed(value: Value, shape: Value) -> Value:
    """Return a value out of JSON with what its shape has beside it; null becomes Go's nil of that type."""
    if isinstance(shape, Pointer):
        return NIL if value is None else typed(value, shape.to)
    if isinstance(shape, Each):
        if isinstance(value, Mapping):
            return {key: typed(each, shape.of) for key, each in value.items()}
        return [typed(each, shape.of) for each in value] if isinstance(value, (list, tuple)) else NIL_SLICE
    if isinstance(shape, Fields):
        return _struct(value, shape) if isinstance(value, Mapping) else value
    return shape if value is None else value


def _struct(value: Mapping[object, Value], shape: Fields) -> Struct:
    there = {str(key): typed(each, shape.fields.get(str(key), each)) for key, each in value.items()}
    omitted = {name: typed(_unsaid(inner), inner) for name, inner in shape.fields.items() if name not in value}
    return Struct({**there, **omitted}, omitted=frozenset(omitted))


def _unsaid(shape: Value) -> Value:
    return {} if isinstance(shape, Fields) else None


def _slices(*names: str) -> dict[str, Value]:
    return dict.fromkeys(names, NIL_SLICE)


def _maps(*names: str) -> dict[str, Value]:
    return dict.fromkeys(names, NIL_MAP)


_HEALTH_CHECK = Fields(
    {
        **_slices("Test"),
        **dict.fromkeys(("Interval", "Timeout", "StartPeriod", "StartInterval"), Nanoseconds(0)),
        "Retries": 0,
    }
)
_CONFIG = Fields(
    {
        **_slices("Env", "Cmd", "Entrypoint", "OnBuild", "Shell"),
        **_maps("ExposedPorts", "Volumes", "Labels"),
        "Healthcheck": Pointer(_HEALTH_CHECK),
        "StopSignal": "",
        "StopTimeout": NIL,
        "ArgsEscaped": False,
        "NetworkDisabled": False,
        "MacAddress": "",
    }
)
_HOST_LISTS = (
    "Binds", "CapAdd", "CapDrop", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "GroupAdd", "Links", "SecurityOpt",
    "VolumesFrom", "Mounts", "Devices", "DeviceCgroupRules", "DeviceRequests", "Ulimits", "BlkioWeightDevice",
    "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "MaskedPaths",
    "ReadonlyPaths",
)  # fmt: skip
_HOST_CONFIG = Fields(
    {
        **_slices(*_HOST_LISTS),
        **_maps("PortBindings", "StorageOpt", "Tmpfs", "Sysctls", "Annotations"),
        **dict.fromkeys(("Init", "MemorySwappiness", "OomKillDisable", "PidsLimit"), NIL),
        "KernelMemory": 0,
    }
)
_NETWORK = Fields(
    {**_slices("Links", "Aliases", "DNSNames"), **_maps("DriverOpts"), "IPAMConfig": NIL, "GwPriority": 0}
)
_MOUNT = Fields({"Name": "", "Driver": ""})
CONTAINER = Fields(
    {
        "State": Fields({"Health": Pointer(Fields({"FailingStreak": 0, **_slices("Log")}))}),
        "Config": _CONFIG,
        "HostConfig": _HOST_CONFIG,
        "NetworkSettings": Fields(
            {
                **_slices("SecondaryIPAddresses", "SecondaryIPv6Addresses"),
                **_maps("Ports"),
                "Networks": Each(_NETWORK),
            }
        ),
        "Mounts": Each(_MOUNT),
        **_slices("Args", "ExecIDs"),
        **dict.fromkeys(("SizeRw", "SizeRootFs", "ImageManifestDescriptor"), NIL),
    }
)
IMAGE = Fields(
    {
        **_slices("RepoTags", "RepoDigests", "Manifests"),
        **dict.fromkeys(("Variant", "OsVersion", "Container", "Parent", "Comment", "DockerVersion", "Author"), ""),
        "Config": Pointer(_CONFIG),
        "RootFS": Fields(_slices("Layers")),
        "ContainerConfig": NIL,
        "Descriptor": NIL,
    }
)
VOLUME = Fields({**_maps("Labels", "Options", "Status"), "CreatedAt": "", "UsageData": NIL})
