"""The options of docker's local driver -> what a volume is made of, and what has to be mounted for it; pure.

Source: docs.docker.com/reference/cli/docker/volume/create "Driver-specific options"; mount(8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.errors import SpecError
from lab.linux import mount
from lab.units import parse_bytes

OPTIONS = ("type", "o", "device", "size")
SMALLEST_BYTES = 1 << 20
_REQUIRED = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
_ADDRESSED = ("nfs", "nfs4", "cifs")
_SECRETS = ("password", "pass", "password2")  # of man mount.cifs(8)
_FLAGS = {
    "ro": mount.MS_RDONLY,
    "nosuid": mount.MS_NOSUID,
    "nodev": mount.MS_NODEV,
    "noexec": mount.MS_NOEXEC,
    "sync": mount.MS_SYNCHRONOUS,
    "dirsync": mount.MS_DIRSYNC,
    "noatime": mount.MS_NOATIME,
    "nodiratime": mount.MS_NODIRATIME,
    "relatime": mount.MS_RELATIME,
    "strictatime": mount.MS_STRICTATIME,
}
_CLEARED = {
    "defaults": 0,
    "rw": mount.MS_RDONLY,
    "suid": mount.MS_NOSUID,
    "dev": mount.MS_NODEV,
    "exec": mount.MS_NOEXEC,
    "async": mount.MS_SYNCHRONOUS,
    "atime": mount.MS_NOATIME,
    "diratime": mount.MS_NODIRATIME,
    "norelatime": mount.MS_RELATIME,
    "nostrictatime": mount.MS_STRICTATIME,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMount:
    """A file system that is mounted on the host for a volume: flags are MS_*, ``data`` is the file system's own."""

    fstype: str
    source: str
    flags: int
    data: str

    @property
    def address(self) -> str:
        """The host that a network file system is on, as the user has named it; "" for others."""
        fields = (field.partition("=") for field in self.data.split(",") if self.fstype in _ADDRESSED)
        return next((value for name, _, value in fields if name == "addr"), "")

    @property
    def shown_data(self) -> str:
        """The file system's own options for messages: what is a secret is not shown."""
        return ",".join(
            f"{field.partition('=')[0]}=********" if field.partition("=")[0] in _SECRETS else field
            for field in self.data.split(",")
        )

    def at_address(self, address: str) -> HostMount:
        """Return the same with an address in the place of the host's name."""
        data = self.data.replace(f"addr={self.address}", f"addr={address}", 1)
        return HostMount(fstype=self.fstype, source=self.source, flags=self.flags, data=data)


def check(options: Mapping[str, str]) -> None:
    """See that a volume can be made with these options.

    Raises:
        SpecError: it cannot, in docker's words.
    """
    for name in options:
        if name not in OPTIONS:
            raise SpecError(f'invalid option: "{name}"', hint=f"one of: {', '.join(OPTIONS)}")
    for name in _REQUIRED:
        for other in _REQUIRED[name] if name in options else ():
            if other not in options:
                raise SpecError(
                    f'missing required option: "{other}"', hint="--opt type=none --opt o=bind --opt device=DIR"
                )
    if "size" in options:
        _check_size(options)


def _check_size(options: Mapping[str, str]) -> None:
    if "type" in options:
        raise SpecError("a size is for volumes of the lab's own", hint="-o type=tmpfs -o device=tmpfs -o o=size=64m")
    try:
        size = size_bytes(options)
    except ValueError as error:
        raise SpecError(f"invalid size: '{options['size']}'", hint=str(error)) from None
    if 0 < size < SMALLEST_BYTES:
        raise SpecError(f"a volume of {options['size']} is too small", hint=f"at least {SMALLEST_BYTES >> 20}m")


def size_bytes(options: Mapping[str, str]) -> int:
    """Return how much a volume can hold, 0 for all that there is.

    Raises:
        SpecError: it is no size.
    """
    return parse_bytes(options["size"]) if options.get("size") else 0


def is_bind(options: Mapping[str, str]) -> bool:
    """Return whether the volume is a directory of the host, which need not be mounted for it."""
    return bool({"bind", "rbind"} & set(_words(options)))


def is_writable(options: Mapping[str, str]) -> bool:
    """Return whether a directory of the host may be written to."""
    return "ro" not in _words(options)


def is_mounted(options: Mapping[str, str]) -> bool:
    """Return whether there is a file system of its own to be mounted for the volume."""
    return bool(size_bytes(options)) or ("type" in options and not is_bind(options))


def is_forgotten(options: Mapping[str, str]) -> bool:
    """Return whether what is in the volume goes when nobody uses it."""
    return options.get("type") in ("tmpfs", "ramfs")


def host_mount(options: Mapping[str, str]) -> HostMount:
    """Return what is to be mounted for a volume that has a type."""
    flags, data = 0, []
    for word in _words(options):
        if word in _FLAGS:
            flags |= _FLAGS[word]
        elif word in _CLEARED:
            flags &= ~_CLEARED[word]
        else:
            data.append(word)
    return HostMount(fstype=options["type"], source=options["device"], flags=flags, data=",".join(data))


def _words(options: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(word for word in options.get("o", "").split(",") if word)
