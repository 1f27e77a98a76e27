"""Whether and how an image may go: docker's rules for ``rmi`` and ``image prune``; pure.

Source: the messages and the order of checks are docker's, found by trying.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lab.container.image.reference import Reference
from lab.errors import StateConflict

_SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An image that is asked to go: its names, and who needs it ("" for nobody); ids are whole.

    ``mounted`` is the pid of a process that has its layers mounted without being a container.
    """

    image_id: str
    names: tuple[Reference, ...]
    running: str = ""
    stopped: str = ""
    mounted: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What happens: names go, and with ``delete`` the image as well."""

    untag: tuple[Reference, ...]
    delete: bool


def plan(image: Standing, asked: str, by_name: Reference | None, *, force: bool) -> Removal:
    """Return what ``rmi`` of ``asked`` does: ``by_name`` when that is a name, an id otherwise.

    Raises:
        StateConflict: in docker's words; ``force`` overrides only what docker lets it override.
    """
    if by_name is None:
        return _by_id(image, asked, force=force)
    tags = [name for name in image.names if not name.digest]
    user = image.running or image.stopped
    if not force and len(image.names) == 1 and user:
        raise StateConflict(
            f'conflict: unable to remove repository reference "{asked}" (must force) - '
            f"container {user[:_SHORT]} is using its referenced image {_short(image.image_id)}",
            hint=f"lab rm {user[:_SHORT]}",
        )
    gone = {by_name}
    if not by_name.digest and not any(name.repository == by_name.repository and name != by_name for name in tags):
        gone |= {name for name in image.names if name.repository == by_name.repository}
    left = [name for name in image.names if name not in gone]
    if not left and image.running and force:
        return Removal(untag=_in_order(image.names, gone), delete=False)  # it stays by its id, as the container needs
    if not left:
        _refuse_use(image, asked, force=force)
    return Removal(untag=_in_order(image.names, gone), delete=not left)


def _by_id(image: Standing, asked: str, *, force: bool) -> Removal:
    if len({name.repository for name in image.names}) > 1 and not force:
        raise _conflict(asked, "must be forced", "image is referenced in multiple repositories")
    _refuse_use(image, asked, force=force)
    return Removal(untag=image.names, delete=True)


def _in_order(names: Sequence[Reference], chosen: Collection[Reference]) -> tuple[Reference, ...]:
    return tuple(name for name in names if name in chosen)


def _refuse_use(image: Standing, asked: str, *, force: bool) -> None:
    if image.running:
        user = image.running[:_SHORT]
        raise _conflict(
            asked, "cannot be forced", f"image is being used by running container {user}", hint=f"lab stop {user}"
        )
    if image.mounted:
        raise _conflict(
            asked,
            "cannot be forced",
            f"its files are in use by process {image.mounted}",
            hint="stop what runs on it first",
        )
    if image.stopped and not force:
        user = image.stopped[:_SHORT]
        raise _conflict(
            asked, "must be forced", f"image is being used by stopped container {user}", hint=f"lab rm {user}"
        )


def _conflict(asked: str, forcing: str, reason: str, *, hint: str = "") -> StateConflict:
    return StateConflict(f"conflict: unable to delete {asked} ({forcing}) - {reason}", hint=hint)


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:_SHORT]
