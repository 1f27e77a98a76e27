"""``RUN --mount=…``: what is mounted for one step only, and is not part of the image; pure.

Source: https://docs.docker.com/reference/dockerfile/#run---mount. Of its types, ``ssh`` is not supported.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lab.errors import SpecError
from lab.units import parse_bytes

_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_SWITCHES = ("readonly", "readwrite", "required")
SECRETS = "/run/secrets"


class MountType(StrEnum):
    """What is mounted."""

    BIND = "bind"
    CACHE = "cache"
    SECRET = "secret"
    TMPFS = "tmpfs"


class Sharing(StrEnum):
    """What happens to a cache that two steps want at once: both have it, each its own, or one waits."""

    SHARED = "shared"
    PRIVATE = "private"
    LOCKED = "locked"


_KEYS = {
    MountType.BIND: {"type", "target", "source", "from", "readonly"},
    MountType.CACHE: {"type", "target", "source", "from", "readonly", "id", "sharing", "mode", "uid", "gid"},
    MountType.SECRET: {"type", "target", "id", "source", "required", "mode", "uid", "gid", "env"},
    MountType.TMPFS: {"type", "target", "size", "readonly"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMount:
    """One mount.

    ``origin`` is a stage or an image, "" for the context; ``variable`` gets a secret in the place of a file.
    """

    type: MountType
    target: str
    source: str = ""
    origin: str = ""
    read_only: bool = True
    id: str = ""
    sharing: Sharing = Sharing.SHARED
    required: bool = False
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size_bytes: int | None = None
    variable: str = ""


@dataclass(slots=True)
class _Fields:
    """The fields of one value, each taken once."""

    values: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        return self.values.get(name, "")

    def number(self, name: str, base: int) -> int | None:
        text = self.text(name)
        try:
            return int(text, base) if text else None
        except ValueError:
            raise SpecError(f"invalid value {text} for {name}") from None

    def switch(self, name: str, default: bool) -> bool:
        text = self.values.get(name)
        if text not in (None, "", "true", "false", "1", "0"):
            raise SpecError(f"invalid value for {name}: {text}")
        return default if text is None else text in ("", "true", "1")


def parse_mount(text: str, expanded: Callable[[str], str], *, cwd: str) -> RunMount:
    """Return the mount that one value of ``--mount`` describes; a relative target is below ``cwd``.

    Raises:
        SpecError: it is malformed, or of a type that does not have such a field.
    """
    fields = _fields(text, expanded)
    kind = _kind(fields.text("type") or MountType.BIND)
    for name in fields.values:
        allowed = _KEYS[kind] | ({"readwrite"} if "readonly" in _KEYS[kind] else set())
        if name not in allowed:
            raise SpecError(
                f"unexpected key '{name}' for mount type '{kind}'", hint=f"it takes {', '.join(sorted(allowed))}"
            )
    writable = kind in (MountType.CACHE, MountType.TMPFS)
    mount = RunMount(
        type=kind,
        target=_target(kind, fields, cwd),
        source=fields.text("source"),
        origin=fields.text("from"),
        read_only=not fields.switch("readwrite", not fields.switch("readonly", not writable)),
        id=fields.text("id"),
        sharing=_sharing(fields.text("sharing") or Sharing.SHARED),
        required=fields.switch("required", False),
        mode=fields.number("mode", 8),
        uid=fields.number("uid", 10) or 0,
        gid=fields.number("gid", 10) or 0,
        size_bytes=_size(fields.text("size")),
        variable=fields.text("env"),
    )
    return _with_id(mount)


def _fields(text: str, expanded: Callable[[str], str]) -> _Fields:
    found = _Fields()
    for item in next(csv.reader([text]), []):
        name, equals, value = item.partition("=")
        name = _ALIASES.get(name.lower(), name.lower())
        if not equals and name not in _SWITCHES:
            raise SpecError(f"invalid field '{item}' must be a key=value pair")
        found.values[name] = expanded(value)
    return found


def _kind(text: str) -> MountType:
    if text == "ssh":
        raise SpecError("--mount=type=ssh is not supported", hint="use type=secret")
    if text.lower() not in list(MountType):
        raise SpecError(f"unsupported mount type {text!r}", hint=", ".join(MountType))
    return MountType(text.lower())


def _sharing(text: str) -> Sharing:
    if text.lower() not in list(Sharing):
        raise SpecError(f"unsupported sharing value {text!r}", hint=", ".join(Sharing))
    return Sharing(text.lower())


def _size(text: str) -> int | None:
    try:
        return parse_bytes(text) if text else None
    except ValueError as error:
        raise SpecError(f"invalid value for size: {error}") from error


def _target(kind: MountType, fields: _Fields, cwd: str) -> str:
    target = fields.text("target")
    if not target and kind is MountType.SECRET:
        name = fields.text("id") or fields.text("source").rpartition("/")[2]
        if not name:
            raise SpecError("invalid secret mount. one of source, target required")
        return "" if fields.text("env") else f"{SECRETS}/{name}"
    if not target:
        raise SpecError(f"a mount of type '{kind}' needs a target")
    if target == "/":
        raise SpecError("a mount at / is not possible")
    return target if target.startswith("/") else f"{cwd.rstrip('/')}/{target}"


def _with_id(mount: RunMount) -> RunMount:
    if mount.type is MountType.CACHE:
        return replace(mount, id=mount.id or mount.target)
    if mount.type is MountType.SECRET:
        names = (mount.id, mount.source, mount.target)
        return replace(mount, id=next(name for name in names if name).rpartition("/")[2], source="")
    return mount
