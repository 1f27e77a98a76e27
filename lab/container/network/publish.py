"""Ports of the host that lead to a container: first held, so that nobody else has them, then led there by the rules.

A port is held by a socket that is bound to it, as any program would: so a clash with whoever it may be is found by the
kernel, before anything else is made, and the host shows the port as taken. The sockets are kept by the spawner as long
as the container runs; they travel as one descriptor, a pipe of descriptors that nobody reads.

    containers/<id>/ports   which ports of the host lead there, in the form of docker's inspect document
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from lab.container.network.firewall import Publication
from lab.container.port_bindings import Bindings, ContainerPort, HostPort, document, in_document
from lab.errors import KernelError, StateConflict, UnavailableError
from lab.linux import sockets

FILE = "ports"
_ANY = {4: "0.0.0.0", 6: "::"}
_KINDS = {"tcp": sockets.SOCK_STREAM, "udp": sockets.SOCK_DGRAM}
_LOOPBACK6 = "::1"
_BATCH = 200  # descriptors in one message; the kernel takes 253
_ATTEMPTS = 16

IsOurs = Callable[[Publication], bool]


class Keeper:
    """A descriptor that holds ports until its last copy is closed; to be closed, or used in a ``with`` block."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._keeper, self._writer = sockets.pair(sockets.SOCK_DGRAM)

    def __enter__(self) -> Keeper:
        """Return the keeper itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; copies hold on."""
        self._keeper.close()
        self._writer.close()

    def fileno(self) -> int:
        """Return the descriptor, to be copied."""
        return self._keeper.fileno()

    def hold(self, wanted: Bindings, families: Sequence[int], is_ours: IsOurs) -> tuple[Publication, ...]:
        """Take ports, all or none, and return them; ``is_ours`` says whether a container leads there already.

        ``families`` (4, 6) are those in which the container can be reached: what is wanted in another is left out.

        Raises:
            StateConflict: one is taken.
            KernelError: this host has no such address, or one may not be bound.
            UnavailableError: it is the loopback of IPv6.
        """
        with contextlib.ExitStack() as stack:
            publications: list[Publication] = []
            opened: list[sockets.Socket] = []
            for port, host in [(port, host) for port, hosts in sorted(wanted.items()) for host in hosts]:
                found, bound = _bind(port, host, families, is_ours)
                publications += found
                opened += map(stack.enter_context, bound)
            for start in range(0, len(opened), _BATCH):
                numbers = tuple(each.fileno() for each in opened[start : start + _BATCH])
                sockets.send_descriptors(self._writer, b"p", numbers)  # what is on its way holds as well
        return tuple(publications)


def _bind(
    port: ContainerPort, host: HostPort, families: Sequence[int], is_ours: IsOurs
) -> tuple[list[Publication], list[sockets.Socket]]:
    addresses = (host.address,) if host.address else tuple(_ANY[family] for family in families)
    addresses = tuple(address for address in addresses if (6 if ":" in address else 4) in families)
    if not addresses:
        return [], []
    if _LOOPBACK6 in addresses:
        raise UnavailableError(
            f"cannot publish {port} at [::1]: the kernel translates no address of IPv6's loopback",
            hint=f"-p 127.0.0.1:{host}:{port}",
        )
    numbers = range(host.number, max(host.last, host.number) + 1) if host.number else (0,) * _ATTEMPTS
    for attempt, number in enumerate(numbers, 1):
        try:
            bound = _bind_all(port.protocol, addresses, number)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and attempt < len(numbers):
                continue
            raise _refusal(port, HostPort(address=str(error.filename), number=number), error, is_ours) from error
        chosen = number or bound[0].getsockname()[1]
        return [(port, HostPort(address=address, number=chosen)) for address in addresses], bound
    raise AssertionError("there is always a last attempt")


def _bind_all(protocol: str, addresses: Sequence[str], number: int) -> list[sockets.Socket]:
    """Return a socket for each address, all at the same number: the first one's, where that is 0."""
    with contextlib.ExitStack() as stack:
        bound: list[sockets.Socket] = []
        for address in addresses:
            kind = _KINDS.get(protocol, sockets.SOCK_STREAM)
            family = sockets.AF_INET6 if ":" in address else sockets.AF_INET
            each = stack.enter_context(sockets.Socket(family, kind | sockets.SOCK_CLOEXEC))
            if family == sockets.AF_INET6:
                each.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, 1)
            try:
                _take(each, kind, address, number or (bound[0].getsockname()[1] if bound else 0))
            except OSError as error:
                raise OSError(error.errno, error.strerror, address) from None
            bound.append(each)
        stack.pop_all()
    return bound


def _take(each: sockets.Socket, kind: int, address: str, number: int) -> None:
    """Bind a socket; one of IPv6 does not listen.

    What comes from ::1 reaches it, as the kernel translates that address for nobody: it is to be refused at once, so
    that clients which ask for "localhost" go on to 127.0.0.1.
    """
    listens = kind == sockets.SOCK_STREAM and ":" not in address
    if listens:  # as a service would: connections that have ended do not count
        each.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
    each.bind((address, number))
    if listens:
        each.listen(1)  # without it another could do the same


def _refusal(port: ContainerPort, host: HostPort, error: OSError, is_ours: IsOurs) -> StateConflict | KernelError:
    where = f"[{host.address}]" if ":" in host.address else host.address
    if error.errno == errno.EADDRINUSE and is_ours((port, host)):
        return StateConflict(f"Bind for {where}:{host.number} failed: port is already allocated", hint="lab ps")
    family = "6" if ":" in host.address else "4"
    what = f"listen {port.protocol}{family} {where}:{host.number}: bind"
    words = (error.strerror or str(error)).lower()
    if error.errno == errno.EADDRINUSE:
        return StateConflict(f"{what}: {words}", hint=f"ss -lnp 'sport = :{host.number}' shows who has it")
    return KernelError("publish", str(port), f"{what}: {words}")


def overlaps(one: Publication, other: Publication) -> bool:
    """Return whether two publications cannot be at the same time."""
    (port, host), (port2, host2) = one, other
    same_family = (":" in host.address) == (":" in host2.address)
    anywhere = {host.address, host2.address} & set(_ANY.values())
    same_place = host.address == host2.address or bool(anywhere)
    return port.protocol == port2.protocol and host.number == host2.number and same_family and same_place


def record(bundle: str, publications: Iterable[Publication]) -> None:
    """Note which ports lead to a container now.

    Raises:
        OSError: it cannot be written.
    """
    path = os.path.join(bundle, FILE)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(document(grouped(publications)), file)
    os.replace(path + ".new", path)


def grouped(publications: Iterable[Publication]) -> Bindings:
    """Return publications by the port of the container."""
    found: dict[ContainerPort, tuple[HostPort, ...]] = {}
    for port, host in publications:
        found[port] = (*found.get(port, ()), host)
    return found


def recorded(bundle: str) -> tuple[Publication, ...]:
    """Return which ports led to a container when it ran last."""
    try:
        with open(os.path.join(bundle, FILE), encoding="utf-8") as file:
            found = in_document(json.load(file))
    except FileNotFoundError:
        return ()
    return tuple((port, host) for port, hosts in found.items() for host in hosts)
