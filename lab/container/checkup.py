"""What killed processes have left below a root, and its removal: first looked for, then decided, then repaired.

What lives is never touched: a container whose process runs, a cgroup that has processes, an address in use.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lab.container import answering
from lab.container.containers import Container, Containers
from lab.container.event_stream import EventFile
from lab.container.image.build_cache import BuildCache
from lab.container.network import departure, ipam, presence
from lab.container.network import health as network_health
from lab.container.network.networks import Networks
from lab.container.spawner_start import has_shared
from lab.container.spec.runtime import Status
from lab.container.volumes import mounting
from lab.container.volumes.store import VolumeStore
from lab.errors import NoSuchContainer
from lab.linux.cgroup import layout as cgroup
from lab.paths import Paths
from lab.units import NS_PER_S

_GRACE_NS = 10 * NS_PER_S


class Kind(StrEnum):
    """What can be left; the value is what users read."""

    SUPERVISOR = "supervisor"
    UNFINISHED = "unfinished container"
    OWNERLESS = "ownerless container"
    LOST_END = "container"
    UNSEEN_END = "container with --rm"
    NAME = "name"
    CGROUP = "cgroup"
    LEASE = "address"
    BUILD = "build"
    DEPARTURE = "names and ports of container"
    NETWORK = "network"
    NAME_SERVER = "name server of network"
    DEAD_BRIDGE = "bridge"
    UNFINISHED_VOLUME = "unfinished volume"
    IDLE_MOUNT = "mount of volume"
    FIREWALL = "firewall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that was left: what it is about, what is wrong with it, and what mends it."""

    kind: Kind
    subject: str
    fault: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is there below a root.

    ``lost`` are containers whose process has gone without a note of its end, ``unseen`` those with --rm that have
    ended. ``names`` maps to ids, ``leases`` addresses that nobody uses to the containers that had them. ``cgroups`` are
    those of containers that this root has made, by id, with the number of processes in them. ``builds`` are work
    directories of killed builds. ``departed`` are containers that have ended and to which names or ports still lead,
    ``networks_down`` those whose bridge or rules are not there, ``unanswered`` those without their name server.
    ``dead_bridges`` maps to roots that are not there any more, ``obstacles`` who drops what networks forward to the
    commands that mend it.
    ``volumes`` are directories of volumes that were never complete, or gone, ``idle_mounts`` volumes that are mounted
    though nobody uses them.
    """

    ids: frozenset[str]
    supervised: bool = True
    needs_supervisor: bool = False
    unfinished: tuple[str, ...] = ()
    ownerless: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    cgroups: Mapping[str, int] = field(default_factory=dict)
    leases: Mapping[str, str] = field(default_factory=dict)
    builds: tuple[str, ...] = ()
    departed: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    idle_mounts: tuple[str, ...] = ()
    networks_down: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    dead_bridges: Mapping[str, str] = field(default_factory=dict)
    obstacles: Mapping[str, str] = field(default_factory=dict)


def plan(view: View) -> tuple[Finding, ...]:
    """Return what was left and what mends it, in the order in which it is to be mended."""
    return tuple(_findings(view))


def _findings(view: View) -> Iterator[Finding]:
    if view.needs_supervisor and not view.supervised:
        yield Finding(
            kind=Kind.SUPERVISOR,
            subject="of this root",
            fault="it has been killed",
            remedy="another one goes on with it",
        )
    for name in view.unfinished:
        yield Finding(kind=Kind.UNFINISHED, subject=name, fault="its maker has been killed", remedy="removed")
    for container_id in view.ownerless:
        yield Finding(kind=Kind.OWNERLESS, subject=container_id, fault="its owner has been killed", remedy="removed")
    for container_id in view.lost:
        yield Finding(kind=Kind.LOST_END, subject=container_id, fault="nobody noted its end", remedy="noted as ended")
    for container_id in view.unseen:
        yield Finding(
            kind=Kind.UNSEEN_END, subject=container_id, fault="it has ended, and was to be removed", remedy="removed"
        )
    for name, container_id in sorted(view.names.items()):
        if container_id not in view.ids:
            yield Finding(
                kind=Kind.NAME, subject=name, fault=f"there is no container {container_id}", remedy="released"
            )
    for address, owner in sorted(view.leases.items()):
        if owner not in view.ids:
            yield Finding(kind=Kind.LEASE, subject=address, fault=f"there is no container {owner}", remedy="released")
    yield from _network_findings(view)
    for name in view.builds:
        yield Finding(kind=Kind.BUILD, subject=name, fault="it has been killed", remedy="removed")
    for name in view.volumes:
        yield Finding(kind=Kind.UNFINISHED_VOLUME, subject=name, fault="its maker has been killed", remedy="removed")
    for name in view.idle_mounts:
        yield Finding(kind=Kind.IDLE_MOUNT, subject=name, fault="no container that runs has it", remedy="unmounted")
    yield from _cgroup_findings(view)


def _network_findings(view: View) -> Iterator[Finding]:
    for container_id in view.departed:
        yield Finding(kind=Kind.DEPARTURE, subject=container_id, fault="it has ended", remedy="undone")
    for name in view.networks_down:
        yield Finding(kind=Kind.NETWORK, subject=name, fault="its bridge or its rules are gone", remedy="made again")
    for name in view.unanswered:
        yield Finding(kind=Kind.NAME_SERVER, subject=name, fault="it has been killed", remedy="started again")
    for name, root in sorted(view.dead_bridges.items()):
        yield Finding(kind=Kind.DEAD_BRIDGE, subject=name, fault=f"its root {root} is gone", remedy="removed")
    for subject, command in view.obstacles.items():
        fault = "it drops what containers send and get"
        yield Finding(kind=Kind.FIREWALL, subject=subject, fault=fault, remedy=f"left to its owner, try: {command}")


def _cgroup_findings(view: View) -> Iterator[Finding]:
    for container_id, processes in sorted(view.cgroups.items()):
        if container_id in view.ids:
            continue
        remedy = "removed" if not processes else f"left alone: {processes} processes live in it"
        yield Finding(kind=Kind.CGROUP, subject=container_id, fault="its container is gone", remedy=remedy)


def look(containers: Containers) -> View:
    """Return what is there; nothing is changed."""
    directory, paths = containers.engine.directory, containers.paths
    known = containers.all()
    unfinished = directory.unfinished()
    being_made = {name.rpartition("-")[2] for name in os.listdir(paths.containers)} if directory.ids() else set()
    return View(
        ids=frozenset(directory.ids()) | being_made,
        supervised=has_shared(paths),
        needs_supervisor=any(each.is_running or each.status == "restarting" or _is_lost(each) for each in known),
        unfinished=unfinished,
        ownerless=containers.engine.leftovers(),
        lost=tuple(each.id for each in known if _is_lost(each)),
        unseen=tuple(each.id for each in known if _is_unseen(each)),
        names=containers.names.owners(),
        cgroups=_cgroups(containers, _ids_of_past(paths)),
        leases=_unused_addresses(paths),
        builds=BuildCache(paths.builds).leftovers(),
        volumes=VolumeStore(paths).unfinished(),
        idle_mounts=mounting.idle(paths),
        departed=tuple(each.id for each in known if not each.is_running and departure.is_due(each.state.bundle)),
        networks_down=network_health.down(paths),
        unanswered=_unanswered(paths, known),
        dead_bridges=network_health.dead_bridges(),
        obstacles=network_health.obstacles(paths),
    )


def _unanswered(paths: Paths, known: Iterable[Container]) -> tuple[str, ...]:
    names = (server.networks[0].name for server in answering.unanswered(paths, known))
    return tuple(sorted(set(names)))


def _is_lost(container: Container) -> bool:
    return bool(container.started_ns) and container.ended is None and not container.is_running


def _is_unseen(container: Container) -> bool:
    ended = container.ended
    return container.record.options.removes and ended is not None and not container.is_running


def _ids_of_past(paths: Paths) -> frozenset[str]:
    """Return the containers that this root's events tell of: other roots have their cgroups in the same place."""
    with EventFile(paths.run) as file:
        return frozenset(event.actor_id for event in file.read() if event.kind == "container")


def _cgroups(containers: Containers, ids: Collection[str]) -> dict[str, int]:
    layout = containers.engine.runtime.layout
    found = ((container_id, f"lab/{container_id}") for container_id in ids)
    return {
        container_id: len(cgroup.processes(layout, path))
        for container_id, path in found
        if cgroup.directories(layout, path)
    }


def _unused_addresses(paths: Paths) -> dict[str, str]:
    made = presence.recorded(paths)
    own = () if made is None else (made.bridge.name,)
    others = (network.bridge.name for network in Networks(paths).made() if network.bridge is not None)
    found: dict[str, str] = {}
    for name in (*own, *others):
        found |= ipam.stale(paths.networks, name)
    return found


def mend(containers: Containers, finding: Finding) -> None:
    """Carry a finding's remedy out; what somebody else has mended meanwhile is no error.

    Raises:
        LabError: it cannot be done.
    """
    with contextlib.suppress(NoSuchContainer, FileNotFoundError):
        _MENDERS[finding.kind](containers, finding.subject)


def _supervise(containers: Containers, _: str) -> None:
    containers.engine.spawner.ensure()


def _note_end(containers: Containers, container_id: str) -> None:
    containers.wait(container_id, time.monotonic_ns() + _GRACE_NS)


def _remove(containers: Containers, container_id: str) -> None:
    containers.remove(container_id)


def _remove_leftovers(containers: Containers, _: str) -> None:
    containers.engine.repair()


def _remove_builds(containers: Containers, _: str) -> None:
    BuildCache(containers.paths.builds).repair()


def _remove_volumes(containers: Containers, _: str) -> None:
    VolumeStore(containers.paths).remove_unfinished()


def _unmount(containers: Containers, name: str) -> None:
    mounting.release(containers.paths, name)


def _release_name(containers: Containers, name: str) -> None:
    containers.names.forget(name)


def _release_address(containers: Containers, address: str) -> None:
    paths = containers.paths
    made = presence.recorded(paths)
    if made is not None:
        ipam.release_stale(paths.networks, made.bridge.name, address)
    for network in Networks(paths).made():
        if network.bridge is not None:
            ipam.release_stale(paths.networks, network.bridge.name, address)


def _undo(containers: Containers, container_id: str) -> None:
    directory = containers.engine.directory
    with directory.locked(container_id):
        if containers.engine.state(container_id).status != Status.RUNNING:
            departure.settle(directory.bundle(container_id))


def _bring_up(containers: Containers, name: str) -> None:
    network_health.bring_up(containers.paths, name)


def _answer(containers: Containers, _: str) -> None:
    answering.answer(containers.paths, containers.all())


def _clear_away(_: Containers, __: str) -> None:
    network_health.clear_away()


def _leave(_: Containers, __: str) -> None:
    return


def _remove_cgroup(containers: Containers, container_id: str) -> None:
    layout, path = containers.engine.runtime.layout, f"lab/{container_id}"
    if not cgroup.processes(layout, path):
        cgroup.remove(layout, path, deadline_ns=time.monotonic_ns() + _GRACE_NS)


_MENDERS: Mapping[Kind, Callable[[Containers, str], None]] = {
    Kind.SUPERVISOR: _supervise,
    Kind.UNFINISHED: _remove_leftovers,
    Kind.OWNERLESS: _remove_leftovers,
    Kind.LOST_END: _note_end,
    Kind.UNSEEN_END: _remove,
    Kind.NAME: _release_name,
    Kind.CGROUP: _remove_cgroup,
    Kind.LEASE: _release_address,
    Kind.BUILD: _remove_builds,
    Kind.DEPARTURE: _undo,
    Kind.UNFINISHED_VOLUME: _remove_volumes,
    Kind.IDLE_MOUNT: _unmount,
    Kind.NETWORK: _bring_up,
    Kind.NAME_SERVER: _answer,
    Kind.DEAD_BRIDGE: _clear_away,
    Kind.FIREWALL: _leave,
}
