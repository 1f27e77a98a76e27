"""``RUN``: a command in a container of ours, whose own layer becomes the step's."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from lab.container import defaults, etc_files
from lab.container.defaults import ContainerConfig, ContainerNetwork
from lab.container.engine import Engine
from lab.container.etc_files import ResolverConfig
from lab.container.image import build_root
from lab.container.image.build_copy import Manner, Tree, writing
from lab.container.image.build_steps import Execute
from lab.container.spawner_client import StartFailed, Stdio
from lab.container.spec.runtime import Memory, Mount, Resources, Rlimit
from lab.errors import BuildCancelled, BuildFailed, NoSuchContainer

_READ_BYTES = 65536
_FILLED = ("/dev", "/proc", "/sys")  # what is below them comes with the file systems that are mounted there
# bound over whatever an image has, for every container
_FILES = tuple(
    Mount(destination=f"/etc/{name}", type="bind", source=os.devnull) for name in ("hostname", "hosts", "resolv.conf")
)
_SHELL = ("/bin/sh",)
_HOST_NAME = "buildkitsandbox"  # what commands see in docker's builder
_RESOLV_CONF = "/etc/resolv.conf"

Output = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every command of a build gets: ``network`` unless RUN says otherwise, variables and mounts beside its own.

    ``hosts`` are names with addresses. None of it counts for the cache. ``on_failure`` is called with a container that
    is to run a shell in the step that failed: it starts it, stays with it to its end, and gives it a terminal if
    ``terminal`` says so.
    """

    network: ContainerNetwork = ContainerNetwork.BRIDGE
    on_failure: Callable[[Engine, str], None] | None = None
    terminal: bool = False
    env: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    shm_bytes: int = 64 << 20
    rlimits: tuple[Rlimit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command with what it stands on: ``layers`` are directories, lowest first; ``mounts``, ``env`` are its own."""

    action: Execute
    layers: Sequence[str]
    mounts: tuple[Mount, ...] = ()
    env: tuple[str, ...] = ()


class Commands:
    """Runs the commands of one build; ``cancel`` ends those that run, and lets no other begin.

    Containers are removed while the next ones run: ``close`` returns when all are gone.
    """

    def __init__(self, engine: Engine, surroundings: Surroundings) -> None:
        """Start nothing yet."""
        self._engine = engine
        self._surroundings = surroundings
        self._running: set[str] = set()
        self._cancelled = False
        self._lock = threading.Lock()
        self._resolver: ResolverConfig | None = None
        self._known: list[tuple[tuple[str, ...], frozenset[str]]] = []
        self._remover = ThreadPoolExecutor(1, "build-remover")
        self._removals: list[Future[None]] = []

    def close(self) -> None:
        """Return when no container is left.

        Raises:
            OSError: one could not be removed.
        """
        self._remover.shutdown()
        for removal in self._removals:
            removal.result()

    def run(self, command: Command, work: str, output: Output) -> str:
        """Run a command to its end and return the directory with what it has changed, below ``work``.

        Raises:
            BuildFailed: it could not be started, or did not end well; then with its exit code, and its files in
                ``work`` as "failed".
        """
        with self._created(self._config(command, command.layers, work)) as (container_id, upper):
            code = self._execute(container_id, output)
            kept = os.path.join(work, container_id)
            os.rename(upper, kept)
        if code:
            if self._cancelled:
                raise BuildCancelled("cancelled, since another step failed")
            if self._surroundings.on_failure is not None:
                self._open_shell(self._surroundings.on_failure, command, kept, work)
            words = " ".join(command.action.args)
            raise BuildFailed(f"the command '{words}' returned a non-zero code: {code}", exit_code=code)
        return kept

    def _open_shell(self, stay_with: Callable[[Engine, str], None], command: Command, failed: str, work: str) -> None:
        """Have a shell where the failed command was, and everything as it has left it."""
        self.cancel()
        config = self._config(command, (*command.layers, failed), work)
        config = replace(config, args=_SHELL, terminal=self._surroundings.terminal)
        with self._created(config, last=True) as (container_id, _):
            stay_with(self._engine, container_id)

    def cancel(self) -> None:
        """End what runs; safe to call twice."""
        with self._lock:
            self._cancelled = True
            running = tuple(self._running)
        for container_id in running:
            with suppress(NoSuchContainer):
                self._engine.terminate(container_id)

    def _config(self, command: Command, layers: Sequence[str], work: str) -> ContainerConfig:
        action, around = command.action, self._surroundings
        config = ContainerConfig(
            id=f"build-{os.urandom(8).hex()}",
            args=action.args,
            env=_merged((*around.env, *action.hidden_env, *action.env, *command.env)),
            cwd=action.cwd,
            hostname=_HOST_NAME,
            user=action.user or "0",
            mounts=(*around.mounts, *command.mounts),
            resources=Resources(memory=Memory(limit=around.memory_bytes, swap=around.memory_swap_bytes)),
            shm_bytes=around.shm_bytes,
            rlimits=around.rlimits,
            network=around.network if action.network == "default" else network_of(action.network),
            volatile=True,
        )
        return replace(config, layers=tuple(reversed((*layers, *self._places(config, tuple(layers), work)))))

    def _places(self, config: ContainerConfig, layers: tuple[str, ...], work: str) -> tuple[str, ...]:
        """Return what ``mount_points`` does, without looking again at what is known of the layers below."""
        wanted = frozenset((config.cwd, *(mount.destination for mount in needed_mounts(config))))
        if any(layers[: len(below)] == below and wanted <= there for below, there in self._known):
            return ()
        found = mount_points(config, layers, work)
        if not found:
            self._known.append((layers, wanted))
        return found

    def _etc_files(self) -> dict[str, str]:
        with suppress(FileNotFoundError), open(_RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            self._resolver = self._resolver or etc_files.parse_resolver(file.read())
        resolver = etc_files.resolver_for_network(self._resolver or ResolverConfig(), ResolverConfig())
        return {
            "hosts": etc_files.hosts((), (), self._surroundings.hosts),
            "hostname": etc_files.hostname(_HOST_NAME),
            "resolv.conf": etc_files.resolv_conf(resolver),
        }

    @contextmanager
    def _created(self, config: ContainerConfig, *, last: bool = False) -> Iterator[tuple[str, str]]:
        """Give a container's id and its own layer; ``last`` is created though the build has been cancelled."""
        bundle = self._engine.directory.bundle(config.id)
        config = replace(config, mounts=(*config.mounts, *etc_files.mounts(bundle, _destinations(config))))
        state = self._engine.create(config, self._etc_files())
        try:
            with self._lock:
                self._running.add(config.id)
                if self._cancelled and not last:
                    raise BuildCancelled("cancelled, since another step failed")
            yield config.id, state.upper
        finally:
            with self._lock:
                self._running.discard(config.id)
                self._removals.append(self._remover.submit(self._engine.delete, config.id, force=True))

    def _execute(self, container_id: str, output: Output) -> int:
        with ExitStack() as stack:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, null)
            ours, theirs = os.pipe()
            stack.callback(os.close, ours)
            try:
                running = self._engine.start(container_id, stdio=Stdio(stdin=null, stdout=theirs, stderr=theirs))
            except StartFailed as failure:
                raise BuildFailed(str(failure), exit_code=1) from failure
            finally:
                os.close(theirs)
            while data := os.read(ours, _READ_BYTES):
                output(data)
            code = self._engine.wait(container_id)
            running.close()
        return 0 if code is None else code


def _merged(lines: Sequence[str]) -> tuple[str, ...]:
    """Return an environment in which the last of several values of a name counts."""
    pairs = dict(line.partition("=")[::2] for line in lines)
    return tuple(f"{name}={value}" for name, value in pairs.items())


def _destinations(config: ContainerConfig) -> Iterator[str]:
    return (mount.destination for mount in config.mounts)


def network_of(name: str) -> ContainerNetwork:
    """Return the network that ``--network`` names.

    Raises:
        BuildFailed: commands of a build cannot have it.
    """
    if name == "default":
        return ContainerNetwork.BRIDGE
    if name not in list(ContainerNetwork):
        raise BuildFailed(f"--network={name} is not supported in a build", hint="default or none")
    return ContainerNetwork(name)


def needed_mounts(config: ContainerConfig) -> tuple[Mount, ...]:
    """Return a container's mounts for which its root file system has to have a place."""
    inside = tuple(f"{place}/" for place in _FILLED)
    mounts = (*defaults.mounts(config, ()), *_FILES)
    return tuple(mount for mount in mounts if not mount.destination.startswith(inside))


def mount_points(config: ContainerConfig, layers: Sequence[str], work: str) -> tuple[str, ...]:
    """Return a layer with the places that a container's mounts need and ``layers`` lack, if there are any.

    Without it the container would make them in its own layer, and they would be part of the image.
    """
    with build_root.mounted(layers, work) as (root, upper), writing(root, Manner()) as tree:
        missing = [mount for mount in needed_mounts(config) if not build_root.exists(root, mount.destination)]
        for mount in missing:
            _make_place(tree, mount)
        if not build_root.exists(root, config.cwd):
            tree.directory(config.cwd)
            return (upper,)
    return (upper,) if missing else ()


def _make_place(tree: Tree, mount: Mount) -> None:
    if mount.type != "bind" or stat.S_ISDIR(os.stat(mount.source).st_mode):
        tree.directory(mount.destination)
        return
    directory, name = os.path.split(mount.destination)
    flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(name, flags, 0o644, dir_fd=tree.directory(directory)))
