"""--userns: which ids of the host a container's users are.

Source: man subuid(5); docs.docker.com/engine/security/userns-remap.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.container.spec.runtime import IdMapping
from lab.errors import SpecError

OWNER = "lab"
"""Whose lines in /etc/subuid and /etc/subgid the containers' ranges are, where there are such lines."""

RANGE_SIZE = 65_536
_FIRST_FREE_ID = 100_000
_HOST, _OWN = ("", "host"), ("private", "remap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mappings:
    """The fields of ``ContainerConfig`` that give a container a user namespace; none when both are empty."""

    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


def mappings(mode: str, *, subuid: str, subgid: str) -> Mappings:
    """Return what --userns asks root's engine for: "host" or "" for the host's users, "private" or "remap" for others.

    ``subuid`` and ``subgid`` are the texts of the two files of /etc; without a range of our own in them the first one
    is taken that nobody has.

    Raises:
        SpecError: the mode is none, or no range is left.
    """
    if mode in _HOST:
        return Mappings()
    if mode not in _OWN:
        raise SpecError("--userns: invalid USER mode", hint="write host, or private")
    return Mappings(uid_mappings=(_range(subuid, "subuid"),), gid_mappings=(_range(subgid, "subgid"),))


def single(uid: int, gid: int) -> Mappings:
    """Return what an ordinary user's engine gives: its own id is the container's root, and there is no other."""
    return Mappings(
        uid_mappings=(IdMapping(container_id=0, host_id=uid, size=1),),
        gid_mappings=(IdMapping(container_id=0, host_id=gid, size=1),),
    )


def _range(text: str, name: str) -> IdMapping:
    taken = sorted(_ranges(text, name), key=lambda each: each[1])
    for owner, first, size in taken:
        if owner == OWNER and size >= RANGE_SIZE:
            return IdMapping(container_id=0, host_id=first, size=RANGE_SIZE)
    candidate = _FIRST_FREE_ID
    for _, first, size in taken:
        if first < candidate + RANGE_SIZE and candidate < first + size:
            candidate = first + size
    if candidate + RANGE_SIZE > 2**32 - 1:
        raise SpecError(f"/etc/{name} leaves no {RANGE_SIZE} ids for containers", path=f"/etc/{name}")
    return IdMapping(container_id=0, host_id=candidate, size=RANGE_SIZE)


def _ranges(text: str, name: str) -> list[tuple[str, int, int]]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        owner, *rest = line.strip().split(":")
        if len(rest) != 2 or not all(part.isdecimal() and part.isascii() for part in rest):
            raise SpecError("not a range: USER:FIRST:COUNT", path=f"/etc/{name}", line=number)
        found.append((owner, int(rest[0]), int(rest[1])))
    return found
