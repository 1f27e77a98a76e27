"""A volume, and a place of a container where one, or a directory of the host, is mounted: frozen, on disk as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lab.errors import SpecError

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
DRIVER = "local"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


class MountType(StrEnum):
    """What is mounted: docker's words."""

    VOLUME = "volume"
    BIND = "bind"
    TMPFS = "tmpfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A named or anonymous volume; ``created_ns`` is the time of day."""

    name: str
    created_ns: int
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody named it."""
        return ANONYMOUS_LABEL in self.labels


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPoint:
    """A bind or volume of a container; ``name`` is the volume's, ``source`` a path of the host.

    ``subpath`` is what of the volume is mounted, "" for all; it is looked for when the container starts, beneath the
    volume. ``recursive`` takes what is mounted below the source along, and ``read_only_top`` leaves that writable where
    the bind is not. ``owned`` says that the volume was made for this very container, which takes it along.
    """

    type: str
    source: str
    destination: str
    name: str = ""
    mode: str = ""
    writable: bool = True
    recursive: bool = True
    read_only_top: bool = False
    propagation: str = ""
    owned: bool = False
    subpath: str = ""


def check_name(name: str) -> None:
    """See that a volume can be called so.

    Raises:
        SpecError: it cannot.
    """
    if len(name) == 1:
        raise SpecError("volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name):
        raise SpecError(
            f'"{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are'
            " allowed. If you intended to pass a host directory, use absolute path"
        )
