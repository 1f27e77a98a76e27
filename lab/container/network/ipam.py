"""Addresses of one bridge: one file for each lease, made under a lock, so that many commands at once never share one.

    networks/<bridge>.leases/<address>   who has it; nobody reads or writes another's
    networks/<bridge>.leases/last        the address given last: the search goes on behind it

A lease is stale, and its address free again, when its link is gone from the host *and* the process that took it has
ended (or the host has rebooted): whoever is killed at any instant leaves no address behind. To take an address costs
the same however many are taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import ipaddress
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from lab.container.network.model import Attachment, Bridge, hardware_address
from lab.errors import ContainerError
from lab.linux import links

_LAST = "last"
_UNFINISHED = ".new"
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
    """What decides whether a lease is alive: this boot, its link, and the start time of a process with its pid."""

    boot_id: str
    has_link: bool
    started_ticks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for with a lease: exactly these addresses, or, as ``before``, that one if it is free still."""

    address: str = ""
    address6: str = ""
    mac: str = ""
    before: str = ""


def lease(directory: str, bridge: Bridge, owner: str, wish: Wish = Wish()) -> Attachment:
    """Take an address of ``bridge`` for ``owner`` and return the whole attachment.

    Addresses are handed out in a circle, so that one just released, whose link the kernel may still be reaping, comes
    last.

    Raises:
        ContainerError: every address is taken, or the one that is asked for.
        OSError: a lease file cannot be read or written.
    """
    with locked(directory, bridge.name):
        leases = _leases_path(directory, bridge.name)
        os.makedirs(leases, mode=0o700, exist_ok=True)
        if wish.address:
            _require_free(leases, wish.address, owner)
        if wish.address6:
            _require_free(leases, wish.address6, owner)
        before = wish.before if wish.before and _is_free(leases, wish.before, owner) else ""
        address = wish.address or before or _first_free(bridge, leases)
        attachment = attach_at(bridge, address, wish)
        names = (address, wish.address6) if wish.address6 else (address,)
        for name in names:
            new = Lease(
                address=name,
                owner=owner,
                host_link=attachment.host_link,
                boot_id=_boot_id(),
                pid=os.getpid(),
                pid_started_ticks=_started_ticks(os.getpid()),
            )
            _write(os.path.join(leases, name), json.dumps(asdict(new)))
        if not wish.address and not before:
            _write(os.path.join(leases, _LAST), address)
    return attachment


def _require_free(leases: str, address: str, owner: str) -> None:
    if not _is_free(leases, address, owner):
        raise ContainerError("Address already in use", hint=f"another container has {address}: lab network inspect")


def _is_free(leases: str, address: str, owner: str) -> bool:
    known = _read_lease(os.path.join(leases, address))
    return known is None or known.owner == owner or is_stale(known, look(known))


def _first_free(bridge: Bridge, leases: str) -> str:
    for address in addresses_after(bridge, _read(os.path.join(leases, _LAST))):
        known = _read_lease(os.path.join(leases, address))
        is_free = (known is None or is_stale(known, look(known))) and not links.exists(host_link_name(bridge, address))
        if is_free and not _is_asked_for(bridge, leases, address):
            return address
    raise ContainerError(
        f"no free address in {bridge.subnet} of bridge {bridge.name}", hint="stop targets that are not needed"
    )


def _is_asked_for(bridge: Bridge, leases: str, address: str) -> bool:
    """Return whether somebody has the IPv6 address that goes with an address, having asked for it."""
    return bool(bridge.subnet6) and not _is_free(leases, address6_of(bridge, address), "")


def release(directory: str, attachment: Attachment) -> None:
    """Give an address back; one that is not leased is no error.

    Raises:
        OSError: the lease file cannot be removed.
    """
    for address in attachment.addresses:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(_leases_path(directory, attachment.bridge), address))


def leased(directory: str, bridge_name: str) -> tuple[Lease, ...]:
    """Return the leases that are alive, by address.

    Raises:
        OSError: a lease file cannot be read.
    """
    return tuple(known for known in _leases(directory, bridge_name) if not is_stale(known, look(known)))


def _leases(directory: str, bridge_name: str) -> tuple[Lease, ...]:
    leases = _leases_path(directory, bridge_name)
    try:
        names = sorted(name for name in os.listdir(leases) if name != _LAST and not name.endswith(_UNFINISHED))
    except FileNotFoundError:
        return ()
    found = (_read_lease(os.path.join(leases, name)) for name in names)
    return tuple(known for known in found if known is not None)


def stale(directory: str, bridge_name: str) -> dict[str, str]:
    """Return the leases that nobody can be using any more: address to owner.

    Raises:
        OSError: a lease file cannot be read.
    """
    known = _leases(directory, bridge_name)
    return {each.address: each.owner for each in known if is_stale(each, look(each))}


def release_stale(directory: str, bridge_name: str, address: str) -> None:
    """Give an address back if its lease is still stale; one that is not leased is no error.

    Raises:
        OSError: the lease file cannot be read or removed.
    """
    with locked(directory, bridge_name):
        if address in stale(directory, bridge_name):
            os.unlink(os.path.join(_leases_path(directory, bridge_name), address))


def forget(directory: str, bridge_name: str) -> None:
    """Remove all that is known of a bridge's leases, for whoever removes the bridge and holds it ``locked``.

    Raises:
        OSError: it cannot be removed.
    """
    from lab.container.storage.trees import remove_tree

    remove_tree(_leases_path(directory, bridge_name))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_lock_path(directory, bridge_name))


def is_stale(known: Lease, view: HostView) -> bool:
    """Return whether nobody can be using this lease any more."""
    if known.boot_id != view.boot_id:
        return True
    return not view.has_link and view.started_ticks != known.pid_started_ticks


def look(known: Lease) -> HostView:
    """Return what decides whether this lease is alive, as it is on the host now."""
    return HostView(boot_id=_boot_id(), has_link=links.exists(known.host_link), started_ticks=_started_ticks(known.pid))


def addresses_after(bridge: Bridge, last: str) -> Iterator[str]:
    """Give each address of the subnet, or of its range, once, the one behind ``last`` first; never the gateway's.

    Nor are the ends of the subnet among them.
    """
    network = ipaddress.IPv4Network(bridge.subnet)
    span = ipaddress.IPv4Network(bridge.ip_range) if bridge.ip_range else network
    first = max(int(span.network_address), int(network.network_address) + 1)
    count = min(int(span.broadcast_address), int(network.broadcast_address) - 1) - first + 1
    start = int(ipaddress.IPv4Address(last)) - first + 1 if last else 0
    for number in range(count):
        address = str(ipaddress.IPv4Address(first + (start + number) % count))
        if address != bridge.gateway:
            yield address


def attach_at(bridge: Bridge, address: str, wish: Wish = Wish()) -> Attachment:
    """Return the attachment that goes with an address: names and hardware address follow from it, so never clash.

    A link of that name may be there still, of the container's last run, for the kernel to reap: then it is another one.
    """
    base = host_link_name(bridge, address)
    names = (base, *(f"{base}{letter}" for letter in "xyz" if len(base) < _LINK_NAME_BYTES))
    return Attachment(
        bridge=bridge.name,
        host_link=next((name for name in names if not links.exists(name)), base),
        address=address,
        prefix_length=bridge.prefix_length,
        gateway="" if bridge.internal else bridge.gateway,
        mac=wish.mac or hardware_address(address),
        address6=(wish.address6 or address6_of(bridge, address)) if bridge.subnet6 else "",
        prefix6_length=bridge.prefix6_length,
        gateway6="" if bridge.internal else bridge.gateway6,
        mtu=bridge.mtu,
        isolated=not bridge.talks,
        host_address=bridge.gateway,
    )


def address6_of(bridge: Bridge, address: str) -> str:
    """Return the IPv6 address that goes with an address: the one with the same number in its subnet."""
    network = ipaddress.IPv6Network(bridge.subnet6)
    return str(network[_number(bridge, address) % network.num_addresses])


def host_link_name(bridge: Bridge, address: str) -> str:
    """Return the outer link's name: six digits that tell bridges apart, and the host's number in the subnet."""
    name = f"{_link_prefix(bridge)}{_number(bridge, address):x}"
    if len(name) > _LINK_NAME_BYTES:
        raise ContainerError(f"subnet {bridge.subnet} is too large for link names of {_LINK_NAME_BYTES} bytes")
    return name


def _number(bridge: Bridge, address: str) -> int:
    return int(ipaddress.IPv4Address(address)) - int(ipaddress.ip_network(bridge.subnet).network_address)


def _link_prefix(bridge: Bridge) -> str:
    return f"lab{hashlib.sha256(bridge.name.encode()).hexdigest()[:6]}-"


@functools.cache
def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _started_ticks(pid: int) -> int:
    """Start time of a process in clock ticks since boot (proc_pid_stat(5), field 22); -1 when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return -1


@contextlib.contextmanager
def locked(directory: str, bridge_name: str) -> Iterator[None]:
    """Keep everybody else from taking an address of a bridge for the block.

    Raises:
        OSError: the lock file cannot be made.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    lock = _lock(_lock_path(directory, bridge_name))
    try:
        yield
    finally:
        os.close(lock)


def _lock(path: str) -> int:
    """Return a descriptor that holds the lock at ``path``; that of a file which was removed meanwhile is none."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(lock)):
                return lock
        os.close(lock)


def _read_lease(path: str) -> Lease | None:
    text = _read(path)
    return Lease(**json.loads(text)) if text else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path + _UNFINISHED, "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path + _UNFINISHED, path)


def _leases_path(directory: str, bridge_name: str) -> str:
    return os.path.join(directory, f"{bridge_name}.leases")


def _lock_path(directory: str, bridge_name: str) -> str:
    return os.path.join(directory, f"{bridge_name}.lock")
