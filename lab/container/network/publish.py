"""Ports of the host that lead to a container: first held, so that nobody else has them, then led there by the rules.

A port is held by a socket that is bound to it (``holding.py``): so a clash with whoever it may be is found by the
kernel, before anything else is made, and the host shows the port as taken.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Sequence

from lab.container.network import holding
from lab.container.network.firewall import Publication
from lab.container.network.holding import Keeper
from lab.container.port_bindings import Bindings, ContainerPort, HostPort
from lab.errors import KernelError, StateConflict, UnavailableError
from lab.linux import sockets

_ANY = {4: "0.0.0.0", 6: "::"}
_LOOPBACK6 = "::1"
_ATTEMPTS = 16

IsOurs = Callable[[Publication], bool]


def hold(keeper: Keeper, wanted: Bindings, families: Sequence[int], is_ours: IsOurs) -> tuple[Publication, ...]:
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
        keeper.keep(opened)
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
            bound = holding.bind(port.protocol, addresses, number)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and attempt < len(numbers):
                continue
            raise _refusal(port, HostPort(address=str(error.filename), number=number), error, is_ours) from error
        chosen = number or bound[0].getsockname()[1]
        return [(port, HostPort(address=address, number=chosen)) for address in addresses], bound
    raise AssertionError("there is always a last attempt")


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
    holding.write(bundle, ((port.protocol, host.address, host.number, port.number) for port, host in publications))


def grouped(publications: Iterable[Publication]) -> Bindings:
    """Return publications by the port of the container."""
    found: dict[ContainerPort, tuple[HostPort, ...]] = {}
    for port, host in publications:
        found[port] = (*found.get(port, ()), host)
    return found


def recorded(bundle: str) -> tuple[Publication, ...]:
    """Return which ports led to a container when it ran last."""
    return tuple(
        (ContainerPort(number=inner, protocol=protocol), HostPort(address=address, number=number))
        for protocol, address, number, inner in holding.read(bundle)
    )
