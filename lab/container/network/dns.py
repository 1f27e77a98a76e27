"""Names on networks that users have made: one dnsmasq for each network, and each set of them that somebody is on.

    run/dns/<network>/<container>   the lines of one container on one network, in the form of /etc/hosts
    run/dns/<server>.pid            the server of a set of networks, found again by it

dnsmasq reads the directories of its networks again when a file in them comes or goes (inotify), so a name is there
and gone within milliseconds, and nobody has to be told. It asks the host's own resolvers for all else; being on the
host, it reaches those on the host's loopback as well. Containers ask it at the host's address on their first network;
one that is on several, or has name servers of its own, is led to another port there by ``firewall.answer_at``.

Source: man dnsmasq(8): --hostsdir, --bind-dynamic, --domain-needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.container.network.dns_watch import DIRECTORY, SUFFIX
from lab.container.network.model import Attachment, Network
from lab.container.storage import durable
from lab.errors import KernelError, UnavailableError
from lab.linux import command
from lab.paths import Paths

PORT = 53
_LOCK = ".lock"
_FIRST_PORT, _PORTS = 20000, 10000
_TIMEOUT_S = 10
_RESOLV_CONF = "/etc/resolv.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One name server: the networks whose names it knows, the first being where it is asked, and whom it asks itself.

    Without ``upstream`` those are the host's resolvers.
    """

    networks: tuple[Network, ...]
    upstream: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it is its network's own."""
        return len(self.networks) == 1 and not self.upstream

    @property
    def id(self) -> str:
        """Under what it is found again."""
        if self.is_plain:
            return self.networks[0].id
        first, *others = (network.id for network in self.networks)
        text = "\n".join((first, *sorted(others), "", *self.upstream))
        return f"{first}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def port(self) -> int:
        """Where it listens: two of a network may not have the same."""
        if self.is_plain:
            return PORT
        return _FIRST_PORT + int(hashlib.sha256(self.id.encode()).hexdigest()[:8], 16) % _PORTS

    @property
    def address(self) -> str:
        """The host's address on its first network."""
        bridge = self.networks[0].bridge
        assert bridge is not None
        return bridge.gateway


def hosts_file(paths: Paths, network_id: str, container_id: str) -> str:
    """Return where the lines of a container on a network are."""
    return os.path.join(_directory(paths), network_id, container_id)


def _directory(paths: Paths) -> str:
    return os.path.join(paths.run, DIRECTORY)


def lines(attachment: Attachment, network: str, names: Sequence[str]) -> str:
    """Return a container's lines: an address is called by the first of its ``names``, and the network, when asked."""
    called = " ".join((f"{names[0]}.{network}", *names))
    return "".join(f"{address}\t{called}\n" for address in attachment.addresses)


def tell(paths: Paths, network: Network, container_id: str, text: str) -> None:
    """Make a container's names known on a network.

    Raises:
        OSError: they cannot be written.
    """
    path = hosts_file(paths, network.id, container_id)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(_unseen(path), "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(_unseen(path), path)


def _unseen(path: str) -> str:
    """Return a path beside another, of a kind that dnsmasq leaves alone."""
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}")


def ensure(paths: Paths, server: Server) -> None:
    """See that a name server runs: a look, and what it takes to start it if it does not.

    Raises:
        UnavailableError: dnsmasq is not installed.
        KernelError: it does not start, in its own words.
    """
    if pid(paths, server.id):
        return
    for network in server.networks:
        os.makedirs(os.path.join(_directory(paths), network.id), exist_ok=True)
    with durable.locked(os.path.join(_directory(paths), _LOCK)):  # the second of two could not listen
        if not pid(paths, server.id):  # else another command has been faster
            _start(paths, server)


def _start(paths: Paths, server: Server) -> None:
    try:
        done = command.run(_argv(paths, server), timeout_s=_TIMEOUT_S)
    except FileNotFoundError:
        raise UnavailableError(
            "names of containers need dnsmasq, which is not installed", hint="apt-get install dnsmasq-base"
        ) from None
    if done.exit_code:
        raise KernelError(
            "start", "dnsmasq", done.error_text, hint=f"ss -lnp 'sport = :{server.port}' shows who has it"
        )


def _argv(paths: Paths, server: Server) -> tuple[str, ...]:
    directories = (f"--hostsdir={os.path.join(_directory(paths), network.id)}" for network in server.networks)
    bridge = server.networks[0].bridge
    assert bridge is not None
    asked = ("--no-resolv", *(f"--server={each}" for each in server.upstream))
    return (
        "dnsmasq",
        "--conf-file=/dev/null",
        "--no-hosts",
        *directories,
        f"--interface={bridge.name}",
        "--except-interface=lo",
        "--bind-dynamic",  # the bridge may go and come again
        f"--port={server.port}",
        f"--pid-file={_pid_file(paths, server.id)}",
        "--user=root",  # the directories may be below one of root's
        "--domain-needed",
        "--local-ttl=0",
        *(asked if server.upstream else (f"--resolv-file={_RESOLV_CONF}",)),
    )


def _pid_file(paths: Paths, server_id: str) -> str:
    return os.path.join(_directory(paths), server_id + SUFFIX)


def is_running(paths: Paths, server_id: str) -> bool:
    """Return whether a server runs."""
    return bool(pid(paths, server_id))


def pid(paths: Paths, server_id: str) -> int:
    """Return the pid of a server that runs, 0 if none does."""
    path = _pid_file(paths, server_id)
    try:
        with open(path, encoding="ascii") as file:
            found = int(file.read())
        with open(f"/proc/{found}/cmdline", "rb") as file:
            return found if f"--pid-file={path}".encode() in file.read().split(b"\0") else 0
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return 0


def servers(paths: Paths) -> tuple[str, ...]:
    """Return the ids of all servers that a root has started, whether they run or not."""
    try:
        names = os.listdir(_directory(paths))
    except FileNotFoundError:
        return ()
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


def end(paths: Paths, network: Network) -> None:
    """End all servers that are asked on a network, and forget all names on it; safe to repeat."""
    from lab.container.storage.trees import remove_tree

    for server_id in servers(paths):
        if server_id.partition("-")[0] == network.id:
            running = pid(paths, server_id)
            if running:
                os.kill(running, signal.SIGTERM)
            with contextlib.suppress(FileNotFoundError):  # the server removes it itself, if it was fast
                os.unlink(_pid_file(paths, server_id))
    remove_tree(os.path.join(_directory(paths), network.id))


def end_on(bridge: str) -> None:
    """End the name servers that are asked on a bridge whose root is gone, and with it the files that tell of them."""
    marks = {f"--interface={bridge}".encode(), b"--conf-file=/dev/null", b"--bind-dynamic"}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            with open(f"/proc/{name}/cmdline", "rb") as file:
                program, *arguments = file.read().split(b"\0")
            if os.path.basename(program) == b"dnsmasq" and marks <= set(arguments):
                os.kill(int(name), signal.SIGTERM)


def own_names(name: str, container_id: str, aliases: Iterable[str]) -> tuple[str, ...]:
    """Return by which names a container is found: its name, its aliases, and the beginning of its id."""
    return tuple(dict.fromkeys((name, *aliases, container_id[:12])))
