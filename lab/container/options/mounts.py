"""--volume, --mount, --tmpfs, VOLUME: what is to be mounted where, and where nothing may be; pure.

Source: docs.docker.com/engine/storage (bind mounts, volumes, tmpfs), reference/cli/docker/container/run "--mount";
man tmpfs(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from lab.container.options.flags import argument
from lab.container.spec.runtime import Mount
from lab.container.volumes.model import DRIVER, MountType
from lab.errors import SpecError
from lab.units import parse_bytes

PROPAGATIONS = frozenset(("private", "rprivate", "slave", "rslave", "shared", "rshared"))
"""How mounts that are made later spread between a bind and the host."""

_IGNORED = frozenset(("z", "Z", "cached", "delegated", "consistent", "default"))
_TRUTHS = {"true": True, "1": True, "": True, "false": False, "0": False}
_RECURSION = ("enabled", "disabled", "writable", "readonly")

_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev")
_OPPOSITES = {"exec": "noexec", "suid": "nosuid", "dev": "nodev", "rw": "ro"}
_FLAGS = frozenset(
    ("ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "relatime", "strictatime")
)
_SETTINGS = frozenset(("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"))
_PROC_FILES = frozenset(
    ("cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps", "uptime")
)


def tmpfs(text: str) -> Mount:
    """Return "PATH[:OPTIONS]" as a mount; options are flags, where the later counts, and the file system's own.

    Raises:
        SpecError: the path is not absolute, or an option is none.
    """
    path, _, options = text.partition(":")
    check_destination(path)
    wanted = [option for option in options.split(",") if option]
    unknown = [option for option in wanted if option not in _FLAGS and option.partition("=")[0] not in _SETTINGS]
    if unknown:
        words = " ".join(f'"{word}"' for word in unknown[0].split("="))
        raise SpecError(f"invalid tmpfs option [{words}]")
    kept = [*_TMPFS_DEFAULTS]
    for option in wanted:
        contrary = {_OPPOSITES.get(option), *(name for name, other in _OPPOSITES.items() if other == option)}
        kept = [other for other in kept if other not in contrary and other != option]
        kept += [option] if option not in _OPPOSITES else []
    return Mount(destination=os.path.normpath(path), type="tmpfs", source="tmpfs", options=tuple(kept))


def check_destination(path: str) -> None:
    """See that a user's mount may be at a path of the container.

    Raises:
        SpecError: it is not absolute, or would cover the root or what the kernel says in /proc.
    """
    if not os.path.isabs(path):
        raise SpecError(f"invalid mount path: '{path}' mount path must be absolute")
    inner = os.path.normpath("/" + path.lstrip("/"))
    if inner == "/":
        raise SpecError("invalid specification: destination can't be '/'")
    below = os.path.relpath(inner, "/proc")
    if below == "." or (not below.startswith("..") and below not in _PROC_FILES):
        raise SpecError(f'check proc-safety of "{inner}" mount: "{inner}" cannot be mounted because it is inside /proc')


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRequest:
    """A bind or a volume that a container is to have.

    ``source`` is a path of the host, or a volume's name, "" for an anonymous one. ``mode`` is what docker shows of
    it; ``recursive`` takes what is mounted below the source along, and ``read_only_top`` leaves that writable where
    the bind itself is not; ``copies`` lets an empty volume take the image's
    content; ``required`` refuses a path of the host that is not there, which else is made. ``subpath`` is below the
    volume; ``labels`` and ``driver_options`` are for a volume that is made.
    """

    type: MountType
    destination: str
    source: str = ""
    mode: str = ""
    writable: bool = True
    recursive: bool = True
    read_only_top: bool = False
    propagation: str = ""
    copies: bool = True
    required: bool = False
    subpath: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    driver_options: Mapping[str, str] = field(default_factory=dict)


def requests(volumes: Iterable[str], mounts: Iterable[str], of_image: Iterable[str]) -> tuple[MountRequest, ...]:
    """Return the binds and volumes of a container, by path: those of -v, of --mount, and the image's own.

    Raises:
        SpecError: one is wrong, or two are at the same path.
    """
    texts = tuple(volumes)
    asked = (*(volume(text) for text in texts if ":" in text), *(each for each in map(_mounted, mounts) if each))
    found: dict[str, MountRequest] = {}
    for each in asked:
        if each.destination in found:
            raise SpecError(f"Duplicate mount point: {each.destination}")
        found[each.destination] = each
    for path in (*(text for text in texts if ":" not in text), *of_image):
        check_destination(path)
        each = MountRequest(type=MountType.VOLUME, destination=os.path.normpath(path))
        found.setdefault(each.destination, each)
    return tuple(found[path] for path in sorted(found))


def volume(text: str) -> MountRequest:
    """Return "SOURCE:DESTINATION[:OPTIONS]" as a bind of a path of the host, or as a named volume.

    Raises:
        SpecError: it is none.
    """
    source, destination, *rest = text.split(":")
    if len(rest) > 1 or not source or not destination:
        raise SpecError(f"invalid volume specification: '{text}'")
    if not os.path.isabs(destination):
        raise SpecError(f"invalid volume specification: '{text}': invalid mount path: '{destination}' must be absolute")
    check_destination(destination)
    wanted = set(rest[0].split(",")) if rest else set()
    is_bind = os.path.isabs(source)
    propagation = wanted & PROPAGATIONS
    allowed = _IGNORED | {"ro", "rw"} | (PROPAGATIONS if is_bind else {"nocopy"})
    if wanted - allowed or len(propagation) > 1 or {"ro", "rw"} <= wanted:
        raise SpecError(f"invalid mode: {rest[0]}")
    return MountRequest(
        type=MountType.BIND if is_bind else MountType.VOLUME,
        source=os.path.normpath(source) if is_bind else source,
        destination=os.path.normpath(destination),
        mode=rest[0] if rest else "" if is_bind else "z",
        writable="ro" not in wanted,
        propagation="".join(propagation),
        copies="nocopy" not in wanted,
    )


def destination_of_volume(text: str) -> str:
    """Return the path inside of a --volume that has been accepted."""
    return os.path.normpath(text.split(":")[1] if ":" in text else text)


def destination_of_mount(text: str) -> str:
    """Return the path inside of a --mount that has been accepted."""
    return os.path.normpath(_fields(text)["target"])


def destination_of_tmpfs(text: str) -> str:
    """Return the path inside of a --tmpfs that has been accepted."""
    return os.path.normpath(text.partition(":")[0])


def tmpfs_of_mounts(texts: Iterable[str]) -> tuple[Mount, ...]:
    """Return those of --mount that are in memory.

    Raises:
        SpecError: one is wrong.
    """
    found = ((text, _fields(text)) for text in texts)
    return tuple(_tmpfs_mount(text, fields) for text, fields in found if _type(fields) == MountType.TMPFS)


def _mounted(text: str) -> MountRequest | None:
    """Return a --mount as a request, None for one in memory."""
    fields = _fields(text)
    kind = _type(fields)
    with argument("--mount", text):
        _check_fields(kind, fields)
    if kind == MountType.TMPFS:
        return None
    common = MountRequest(
        type=kind,
        source=fields.get("source", ""),
        destination=os.path.normpath(fields["target"]),
        writable=not _truth(text, "readonly", fields.get("readonly", "false")),
    )
    return (_bind_mount if kind == MountType.BIND else _volume_mount)(text, fields, common)


def _bind_mount(text: str, fields: Mapping[str, str], common: MountRequest) -> MountRequest:
    propagation, recursion = fields.get("bind-propagation", ""), fields.get("bind-recursive", "enabled")
    with argument("--mount", text):
        if not common.source:
            raise SpecError('invalid mount config for type "bind": field Source must not be empty')
        if propagation and propagation not in PROPAGATIONS:
            raise SpecError(f"invalid propagation value: {propagation}")
        _check_recursion(recursion, propagation, writable=common.writable)
    return replace(
        common,
        source=common.source if os.path.isabs(common.source) else os.path.abspath(common.source),
        propagation=propagation,
        recursive=recursion != "disabled",
        read_only_top=recursion == "writable",
        required=True,
    )


def _check_recursion(recursion: str, propagation: str, *, writable: bool) -> None:
    if recursion not in _RECURSION:
        words = ", ".join(f'"{word}"' for word in _RECURSION[:-1])
        raise SpecError(f'invalid value for bind-recursive: {recursion} (must be {words}, or "{_RECURSION[-1]}")')
    if recursion in ("writable", "readonly") and writable:
        raise SpecError(f"option 'bind-recursive={recursion}' requires 'readonly' to be specified in conjunction")
    if recursion == "readonly" and propagation != "rprivate":
        raise SpecError(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
        )


def _volume_mount(text: str, fields: Mapping[str, str], common: MountRequest) -> MountRequest:
    driver = fields.get("volume-driver", DRIVER)
    if driver != DRIVER:
        raise SpecError(f'error looking up volume plugin {driver}: plugin "{driver}" not found')
    subpath = os.path.normpath(fields["volume-subpath"]) if fields.get("volume-subpath") else ""
    with argument("--mount", text):
        if os.path.isabs(subpath) or subpath.split("/")[0] == "..":
            raise SpecError(f"subpath '{subpath}' must be a relative path within the volume")
    return replace(
        common,
        mode="z",
        copies=not _truth(text, "volume-nocopy", fields.get("volume-nocopy", "false")),
        subpath="" if subpath == "." else subpath,
        labels=_pairs(fields.get("volume-label", "")),
        driver_options=_pairs(fields.get("volume-opt", "")),
    )


def _pairs(lines: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in lines.split("\n") if line)}


def _tmpfs_mount(text: str, fields: Mapping[str, str]) -> Mount:
    with argument("--mount", text):
        _check_fields(MountType.TMPFS, fields)
        if fields.get("source"):
            raise SpecError('invalid mount config for type "tmpfs": field Source must not be specified')
        try:
            _memory(fields)
        except ValueError:
            wrong = next(name for name in ("tmpfs-size", "tmpfs-mode") if name in fields)
            raise SpecError(f"invalid value for {wrong}: {fields[wrong]}", hint="such as 64m and 1770") from None
    given = ((name, fields.get(f"tmpfs-{name}", "")) for name in ("size", "mode"))
    options = [f"{name}={value}" for name, value in given if value]
    options += ["ro"] * _truth(text, "readonly", fields.get("readonly", "false"))
    return tmpfs(f"{fields['target']}:{','.join(options)}")


def document(text: str) -> dict[str, object]:
    """Return a --mount that has been accepted as docker's JSON object, without what was not said."""
    fields = _fields(text)
    recursion = fields.get("bind-recursive", "")
    bind = {
        "Propagation": fields.get("bind-propagation", ""),
        "NonRecursive": recursion == "disabled",
        "ReadOnlyNonRecursive": recursion == "writable",
        "ReadOnlyForceRecursive": recursion == "readonly",
    }
    driver = {"Name": fields.get("volume-driver", ""), "Options": _pairs(fields.get("volume-opt", ""))}
    volume = {
        "NoCopy": _truth(text, "volume-nocopy", fields.get("volume-nocopy", "false")),
        "Labels": _pairs(fields.get("volume-label", "")),
        "Subpath": fields.get("volume-subpath", ""),
        "DriverConfig": _said(driver),
    }
    whole = {
        "Type": str(_type(fields)),
        "Source": fields.get("source", ""),
        "Target": fields["target"],
        "ReadOnly": _truth(text, "readonly", fields.get("readonly", "false")),
        "Consistency": fields.get("consistency", ""),
        "BindOptions": _said(bind),
        "VolumeOptions": _said(volume),
        "TmpfsOptions": _said(_memory(fields)),
    }
    return _said(whole)


def _memory(fields: Mapping[str, str]) -> dict[str, int]:
    size, mode = fields.get("tmpfs-size") or "0", fields.get("tmpfs-mode") or "0"
    return {"SizeBytes": parse_bytes(size), "Mode": int(mode, 8)}


def _said(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value}


_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_REPEATED = ("volume-label", "volume-opt")
_ALONE = ("readonly", "volume-nocopy")
_KNOWN = (
    "type", "source", "target", "readonly", "consistency", "bind-propagation", "bind-recursive", "volume-subpath",
    "volume-nocopy", "volume-label", "volume-driver", "volume-opt", "tmpfs-size", "tmpfs-mode",
)  # fmt: skip


def _fields(text: str) -> dict[str, str]:
    """Return the fields of a --mount by their first names; those that may come again are joined by line ends."""
    import csv  # few ask for it

    found: dict[str, str] = {}
    with argument("--mount", text):
        try:
            parts = next(csv.reader([text]), [])
        except csv.Error as error:
            raise SpecError(str(error)) from None
        for part in parts:
            name, equals, value = part.partition("=")
            name = _NAMES.get(name.strip().lower(), name.strip().lower())
            if not equals and name not in _ALONE:
                raise SpecError(f"invalid field '{part}' must be a key=value pair")
            if name not in _KNOWN:
                raise SpecError(f"unexpected key '{name}' in '{part}'")
            found[name] = f"{found[name]}\n{value}" if name in found and name in _REPEATED else value
            if not equals:
                found[name] = "true"
    return found


def _type(fields: Mapping[str, str]) -> MountType:
    given = fields.get("type", MountType.VOLUME).lower()
    try:
        return MountType(given)
    except ValueError:
        raise SpecError(f"mount type unknown: {given!r}", hint=f"one of: {', '.join(MountType)}") from None


def _check_fields(kind: MountType, fields: Mapping[str, str]) -> None:
    if not fields.get("target"):
        raise SpecError("target is required")
    check_destination(fields["target"])
    for name in fields:
        prefix, dash, _ = name.partition("-")
        if dash and prefix != kind:
            raise SpecError(f"cannot mix '{prefix}-*' options with mount type '{kind}'")


def _truth(text: str, name: str, value: str) -> bool:
    with argument("--mount", text):
        if value.lower() not in _TRUTHS:
            raise SpecError(f"invalid value for {name}: {value}")
    return _TRUTHS[value.lower()]
