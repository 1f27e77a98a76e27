"""The library's front door: images, containers and their network under one root directory.

No daemon: any number of processes may have an engine on the same root. Each container has an owner, the process
that created it; what a dead owner left is found and removed by ``repair``, which the first ``create`` calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import MappingProxyType, TracebackType

from lab.container import defaults, rootless
from lab.container.defaults import ContainerConfig, ContainerNetwork
from lab.container.network import ipam, presence
from lab.container.network.model import Attachment, Bridge, Endpoint
from lab.container.runtime import Runtime, grantable
from lab.container.spawner_client import Running, SpawnerClient, Stdio, Supervision
from lab.container.spec.runtime import Process, Status
from lab.container.state import ContainerDirectory, ContainerState, ProcessIdentity
from lab.errors import NoSuchContainer
from lab.linux import links
from lab.paths import Paths


def _nothing(_: ContainerState) -> None:
    return


class Engine:
    """Containers under one root directory; to be closed, or used in a ``with`` block."""

    def __init__(self, paths: Paths, *, shared: bool = False) -> None:
        """Open the engine of a root; nothing is made or started before it is needed.

        ``shared`` takes the root's shared spawner, which alone can supervise; else the engine has one of its own.
        """
        self._paths = paths
        self._shared = shared
        self._directory = ContainerDirectory(paths.containers)
        self._spawner = SpawnerClient(paths.cache, paths if shared else None)
        self._runtime = Runtime(self._directory, self._spawner, cache=paths.cache)
        self._self = ProcessIdentity.of(os.getpid())
        self._bridge: Bridge | None = None
        self._repaired = False

    def __enter__(self) -> Engine:
        """Return the engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def runtime(self) -> Runtime:
        """The lifecycle beneath, for who needs its cgroups."""
        return self._runtime

    @property
    def spawner(self) -> SpawnerClient:
        """The spawner, for who connects to the streams of what it supervises."""
        return self._spawner

    @property
    def paths(self) -> Paths:
        """Where the root is."""
        return self._paths

    @property
    def directory(self) -> ContainerDirectory:
        """All containers on disk."""
        return self._directory

    @property
    def spawner_pid(self) -> int | None:
        """The pid of the process that all containers of this engine are children of; None before the first."""
        return self._spawner.pid

    def warm_up(self) -> None:
        """Start the spawner now, so that the first container does not wait for it, and repair as ``create`` does."""
        self._spawner.ensure()
        self._repair_once()

    def create(
        self,
        config: ContainerConfig,
        files: Mapping[str, str] = MappingProxyType({}),
        endpoints: tuple[Endpoint, ...] = (),
    ) -> ContainerState:
        """Lay a container out: its layers unpacked, its own layer empty, its network's bridge there; nothing runs.

        ``files`` (name, text) are put into its directory. Without ``endpoints`` it is on the root's own bridge, if any.

        Raises:
            ImageNotFound: the store has no such manifest.
            StateConflict: the id is taken.
            UnavailableError: this host cannot enforce one of its limits, or its user may not have it.
            KernelError: the bridge could not be made.
        """
        self._repair_once()
        self._spawner.ensure()
        if os.geteuid():
            config = rootless.reduced(config, os.geteuid(), os.getegid())
        config = replace(config, capabilities=grantable(config.capabilities, self._runtime.layout))
        bundle = self._directory.bundle(config.id)
        state = ContainerState(
            id=config.id,
            bundle=bundle,
            status=Status.CREATED,
            owner=self._self,
            cgroup=os.path.join(config.cgroup_parent, config.id),
            layers=config.layers or self._layers(config.image),
            detached=config.detached,
            volatile=config.volatile,
            anonymous_volumes=len(config.anonymous_volumes),
            bridged=config.network == ContainerNetwork.BRIDGE,
            endpoints=endpoints,
        )
        if state.bridged and not endpoints:
            self._bridge = self.ensure_bridge()
        spec = defaults.spec(config, state.rootfs, state.volume_directories)
        self._runtime.create(state, spec, files)
        return state

    def _layers(self, image: str) -> tuple[str, ...]:
        from lab.container.image.store import ImageStore  # only creation needs it

        return ImageStore.open(self._paths).layer_directories(image)

    def start(
        self,
        container_id: str,
        *,
        stdio: Stdio,
        supervision: Supervision | None = None,
        prepare: Callable[[ContainerState], None] = _nothing,
        hairpin: bool = False,
    ) -> Running:
        """Start a container and return once its program runs; ``stdio`` stays the caller's to close.

        ``prepare`` is called under its lock when its addresses are known; what ``supervision`` does is said at
        ``Runtime.start``, what ``hairpin`` does at ``Attachment``.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it runs already.
            StartFailed: a step between clone and exec failed; nothing of it is left.
        """
        leased: list[Attachment] = []

        def attach(state: ContainerState) -> ContainerState:
            before = {each.address for each in state.attachments}
            attached = self._attach(state, hairpin=hairpin)
            leased.extend(each for each in attached.attachments if each.address not in before)
            prepare(attached)
            return attached

        try:
            return self._runtime.start(container_id, stdio=stdio, attach=attach, supervision=supervision)
        except BaseException:
            for attachment in leased:
                ipam.release(self._paths.networks, attachment)
            raise

    def exec(
        self, container_id: str, process: Process, *, stdio: Stdio, detached: bool = False, exec_id: str = ""
    ) -> Running:
        """Run a further program in a running container, under the same limits; return once it runs.

        One that is ``detached`` outlives this engine. With ``exec_id`` the container's events tell of its end.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it does not run.
            StartFailed: the program could not be executed.
        """
        return self._runtime.exec(container_id, process, stdio=stdio, detached=detached, exec_id=exec_id)

    def process(
        self, container_id: str, args: tuple[str, ...], *, env: tuple[str, ...] = (), cwd: str = "/"
    ) -> Process:
        """Return a further program for ``exec``: as the container's main one, with ``env`` before its environment.

        Raises:
            NoSuchContainer: there is none.
        """
        main = self._directory.load_spec(container_id).process
        given = {line.partition("=")[0] for line in env}
        kept = (line for line in main.env if line.partition("=")[0] not in given)
        return replace(main, args=args, cwd=cwd, env=(*kept, *env))

    def kill(self, container_id: str, signal_number: int) -> None:
        """Send a signal to a container's first process; what it raises is said at ``Runtime.kill``."""
        self._runtime.kill(container_id, signal_number)

    def terminate(self, container_id: str) -> None:
        """Kill all processes of a container, and return when none is left; safe to call twice."""
        self._runtime.terminate(container_id)

    def wait(self, container_id: str, deadline_ns: int | None = None) -> int | None:
        """Return the exit code of a stopped container, or None at ``deadline_ns`` (CLOCK_MONOTONIC)."""
        return self._runtime.wait(container_id, deadline_ns)

    def pause(self, container_id: str) -> None:
        """Freeze a running container in place."""
        self._runtime.pause(container_id, paused=True)

    def resume(self, container_id: str) -> None:
        """Let a paused container go on."""
        self._runtime.pause(container_id, paused=False)

    def is_paused(self, container_id: str) -> bool:
        """Return whether a container is frozen.

        Raises:
            NoSuchContainer: there is none.
        """
        return self._runtime.is_paused(container_id)

    def delete(self, container_id: str, *, force: bool = False) -> None:
        """Remove a container and all that belongs to it; ``force`` kills it first if it runs.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it runs, and ``force`` is not set.
        """
        state = self._directory.load(container_id)
        self._runtime.delete(container_id, force=force)
        for attachment in state.attachments:  # its link goes with the namespace: the kernel reaps it
            ipam.release(self._paths.networks, attachment)

    def state(self, container_id: str) -> ContainerState:
        """Return a container's state as it is now.

        Raises:
            NoSuchContainer: there is none.
        """
        return self._directory.load(container_id)

    def list(self) -> tuple[ContainerState, ...]:
        """Return the state of every container of this root, by id."""
        found = []
        for container_id in self._directory.ids():
            with suppress(NoSuchContainer):  # it has just been removed
                found.append(self._directory.load(container_id))
        return tuple(found)

    def leftovers(self) -> tuple[str, ...]:
        """Return the ids of containers without owner, which ``repair`` removes."""
        return tuple(state.id for state in self.list() if _is_leftover(state))

    def repair(self) -> tuple[str, ...]:
        """Remove what killed processes left: containers without owner, directories that were never complete.

        Returns what was removed, one id or name each. Containers that live, detached ones included, stay.
        """
        removed = list(self._directory.remove_unfinished())
        for container_id in self._directory.ids():
            try:
                state = self._directory.load(container_id)
                if not _is_leftover(state):
                    continue
                self.delete(container_id, force=True)
            except NoSuchContainer:
                continue  # another process repairs as well
            removed.append(container_id)
        return tuple(removed)

    def close(self) -> None:
        """Let the spawner go; it kills every container of this engine that is not detached; safe to call twice."""
        self._spawner.close()

    def release_network(self) -> None:
        """Remove the bridge if this engine has used it and no container has an address on it; safe to call twice.

        Raises:
            KernelError: the kernel or nft refused.
        """
        if self._bridge is None:
            return
        from lab.container.network import apply  # see _ensure_bridge

        self._bridge = None
        apply.remove_idle_bridge(self._paths)

    def _repair_once(self) -> None:
        if not self._repaired:
            self._repaired = True
            if self._shared:  # every command would look at every container: that is left to `lab system check`
                self._directory.remove_unfinished()
            else:
                self.repair()

    def ensure_bridge(self) -> Bridge:
        """Return the root's own bridge, which is up.

        Raises:
            KernelError: the kernel or nftables refused.
        """
        found = presence.standing(self._paths)
        if found is not None:
            return found
        from lab.container.network import apply  # pyroute2 costs 200 ms, and only those who connect need it

        return apply.ensure_bridge(self._paths)

    @contextmanager
    def leased(self, state: ContainerState) -> Iterator[Attachment | None]:
        """Give a bridged container's place on the network for the time of a block, without starting it; else None."""
        if not state.bridged:
            yield None
            return
        attachment = self._take_address(state.id)
        try:
            yield attachment
        finally:
            ipam.release(self._paths.networks, attachment)

    def _attach(self, state: ContainerState, *, hairpin: bool) -> ContainerState:
        """Return a container with its places on its networks, those that it had before if they are free still."""
        if not state.bridged:
            return state
        if not state.endpoints:
            before = "" if state.attachment is None else state.attachment.address
            return replace(state, attachment=replace(self._take_address(state.id, before), hairpin=hairpin))
        from lab.container.network import endpoints  # few have networks that their users have made

        found = endpoints.attach_all(self._paths, state.id, state.endpoints, self.ensure_bridge)
        return replace(state, endpoints=tuple(_with_hairpin(each) for each in found) if hairpin else found)

    def _take_address(self, container_id: str, before: str = "") -> Attachment:
        while True:
            # another process may have removed an idle bridge; a look costs microseconds, to ensure it the import
            if self._bridge is None or not links.exists(self._bridge.name):
                self._bridge = self.ensure_bridge()
            attachment = ipam.lease(self._paths.networks, self._bridge, container_id, ipam.Wish(before=before))
            if links.exists(self._bridge.name):  # and from now on nobody removes it
                return attachment
            ipam.release(self._paths.networks, attachment)


def _with_hairpin(endpoint: Endpoint) -> Endpoint:
    if endpoint.attachment is None:
        return endpoint
    return replace(endpoint, attachment=replace(endpoint.attachment, hairpin=True))


def _is_leftover(state: ContainerState) -> bool:
    return not state.owner.is_alive() and not state.detached
