"""Addresses of one bridge: leases in a file under a lock, so that many commands at once never share one.

A lease is stale, and its address free again, when its link is gone from the host *and* the process that took it has
ended (or the host has rebooted): whoever is killed at any instant leaves no address behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass

from lab.container.network.model import Attachment, Bridge
from lab.errors import ContainerError

_LINK_NAME_BYTES = 15  # IFNAMSIZ without the final zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One address, who has it, the link that carries it, and the process (pid and start time) that asked for it."""

    address: str
    owner: str
    host_link: str
    boot_id: str
    pid: int
    pid_started_ticks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """What decides whether a lease is alive: this boot, the links that there are, and start times of processes."""

    boot_id: str
    links: Collection[str]
    started_ticks: Mapping[int, int]


def lease(directory: str, bridge: Bridge, owner: str) -> Attachment:
    """Take an address of ``bridge`` for ``owner`` and return the whole attachment.

    Addresses are handed out in a circle, so that one just released, whose link the kernel may still be reaping, comes
    last.

    Raises:
        ContainerError: every address is taken.
        OSError: the lease file cannot be read or written.
    """
    with _locked(directory, bridge.name):
        leases, last = _read(directory, bridge.name)
        view = _look(leases)
        alive = tuple(known for known in leases if not is_stale(known, view))
        address = next_address(bridge, taken=_taken(bridge, alive, view.links), last=last)
        attachment = attach_at(bridge, address)
        new = Lease(
            address=address,
            owner=owner,
            host_link=attachment.host_link,
            boot_id=view.boot_id,
            pid=os.getpid(),
            pid_started_ticks=_started_ticks(os.getpid()),
        )
        _write(directory, bridge.name, (*alive, new), last=address)
    return attachment


def release(directory: str, attachment: Attachment) -> None:
    """Give an address back; one that is not leased is no error.

    Raises:
        OSError: the lease file cannot be read or written.
    """
    with _locked(directory, attachment.bridge):
        leases, last = _read(directory, attachment.bridge)
        rest = tuple(known for known in leases if known.address != attachment.address)
        _write(directory, attachment.bridge, rest, last=last)


def leased(directory: str, bridge_name: str) -> tuple[Lease, ...]:
    """Return the leases that are alive.

    Raises:
        OSError: the lease file cannot be read.
    """
    with _locked(directory, bridge_name):
        leases, _ = _read(directory, bridge_name)
    view = _look(leases)
    return tuple(known for known in leases if not is_stale(known, view))


def lease_files(directory: str, bridge_name: str) -> tuple[str, ...]:
    """Return the files that leases of a bridge are kept in, for whoever removes the bridge."""
    return _leases_path(directory, bridge_name), _lock_path(directory, bridge_name)


def is_stale(known: Lease, view: HostView) -> bool:
    """Return whether nobody can be using this lease any more."""
    if known.boot_id != view.boot_id:
        return True
    return known.host_link not in view.links and view.started_ticks.get(known.pid) != known.pid_started_ticks


def next_address(bridge: Bridge, *, taken: Collection[str], last: str) -> str:
    """Return the first free address after ``last`` in the subnet, going round; the gateway is never given.

    Raises:
        ContainerError: every address is taken.
    """
    hosts = [str(host) for host in ipaddress.ip_network(bridge.subnet).hosts()]
    start = hosts.index(last) + 1 if last in hosts else 0
    for address in hosts[start:] + hosts[:start]:
        if address != bridge.gateway and address not in taken:
            return address
    raise ContainerError(
        f"no free address in {bridge.subnet} of bridge {bridge.name}", hint="stop targets that are not needed"
    )


def attach_at(bridge: Bridge, address: str) -> Attachment:
    """Return the attachment that goes with an address: names and hardware address follow from it, so never clash."""
    packed = ipaddress.IPv4Address(address).packed
    return Attachment(
        bridge=bridge.name,
        host_link=host_link_name(bridge, address),
        address=address,
        prefix_length=bridge.prefix_length,
        gateway=bridge.gateway,
        mac=":".join(f"{byte:02x}" for byte in (0x02, 0x42, *packed)),
    )


def host_link_name(bridge: Bridge, address: str) -> str:
    """Return the outer link's name: six digits that tell bridges apart, and the host's number in the subnet."""
    number = int(ipaddress.IPv4Address(address)) - int(ipaddress.ip_network(bridge.subnet).network_address)
    name = f"{_link_prefix(bridge)}{number:x}"
    if len(name) > _LINK_NAME_BYTES:
        raise ContainerError(f"subnet {bridge.subnet} is too large for link names of {_LINK_NAME_BYTES} bytes")
    return name


def _link_prefix(bridge: Bridge) -> str:
    return f"lab{hashlib.sha256(bridge.name.encode()).hexdigest()[:6]}-"


def _taken(bridge: Bridge, alive: Collection[Lease], links: Collection[str]) -> set[str]:
    """Addresses with a lease, and those whose link the kernel has not reaped yet."""
    network = ipaddress.ip_network(bridge.subnet)
    prefix = _link_prefix(bridge)
    numbers = (int(link.removeprefix(prefix), 16) for link in links if link.startswith(prefix))
    return {known.address for known in alive} | {str(network[number]) for number in numbers}


def _look(leases: Collection[Lease]) -> HostView:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    started = {known.pid: _started_ticks(known.pid) for known in leases}
    return HostView(boot_id=boot_id, links=frozenset(os.listdir("/sys/class/net")), started_ticks=started)


def _started_ticks(pid: int) -> int:
    """Start time of a process in clock ticks since boot (proc_pid_stat(5), field 22); -1 when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return -1


@contextlib.contextmanager
def _locked(directory: str, bridge_name: str) -> Iterator[None]:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    lock = os.open(_lock_path(directory, bridge_name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _read(directory: str, bridge_name: str) -> tuple[tuple[Lease, ...], str]:
    try:
        with open(_leases_path(directory, bridge_name), encoding="utf-8") as file:
            document = json.load(file)
    except FileNotFoundError:
        return (), ""
    return tuple(Lease(**entry) for entry in document["leases"]), document["last"]


def _write(directory: str, bridge_name: str, leases: tuple[Lease, ...], *, last: str) -> None:
    path = _leases_path(directory, bridge_name)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump({"last": last, "leases": [asdict(known) for known in leases]}, file)
    os.rename(path + ".new", path)


def _leases_path(directory: str, bridge_name: str) -> str:
    return os.path.join(directory, f"{bridge_name}.leases.json")


def _lock_path(directory: str, bridge_name: str) -> str:
    return os.path.join(directory, f"{bridge_name}.lock")
