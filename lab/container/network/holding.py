"""Ports of the host, held by sockets that are bound to them, as any program would: so nobody else gets them meanwhile.

The sockets are kept by the spawner as long as the container runs; they travel as one descriptor, a pair of sockets in
which they wait, unread. A spawner that follows one that was killed holds again what is noted as led to a container.

    containers/<id>/ports   which ports of the host lead there, one a line: protocol, address, number, the container's

This file is imported by the spawner: nothing heavy here.
"""

from __future__ import annotations

import os

from lab.linux import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    Held = tuple[str, str, int, int]
    """A port of the host that leads to a container: protocol, address and number, and the container's number."""

FILE = "ports"
_KINDS = {"tcp": sockets.SOCK_STREAM, "udp": sockets.SOCK_DGRAM}
_BATCH = 200  # descriptors in one message; the kernel takes 253


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

    def keep(self, opened: Sequence[sockets.Socket]) -> None:
        """Hold the ports of sockets, which may be closed then."""
        for start in range(0, len(opened), _BATCH):
            numbers = tuple(each.fileno() for each in opened[start : start + _BATCH])
            sockets.send_descriptors(self._writer, b"p", numbers)  # what is on its way holds as well


def bind(protocol: str, addresses: Sequence[str], number: int) -> list[sockets.Socket]:
    """Return a socket for each address, all at the same number: the first one's, where that is 0.

    Raises:
        OSError: with the address: EADDRINUSE, EADDRNOTAVAIL, EACCES, EMFILE; nothing is bound then.
    """
    kind = _KINDS.get(protocol, sockets.SOCK_STREAM)
    bound: list[sockets.Socket] = []
    for address in addresses:
        try:
            bound.append(sockets.Socket(_family(address), kind | sockets.SOCK_CLOEXEC))
            _take(bound[-1], kind, address, number or (bound[0].getsockname()[1] if len(bound) > 1 else 0))
        except OSError as error:
            for each in bound:
                each.close()
            raise OSError(error.errno, error.strerror, address) from None
    return bound


def _family(address: str) -> int:
    return sockets.AF_INET6 if ":" in address else sockets.AF_INET


def _take(each: sockets.Socket, kind: int, address: str, number: int) -> None:
    """Bind a socket; one of IPv6 does not listen.

    What comes from ::1 reaches it, as the kernel translates that address for nobody: it is to be refused at once, so
    that clients which ask for "localhost" go on to 127.0.0.1.
    """
    if ":" in address:
        each.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, 1)
    listens = kind == sockets.SOCK_STREAM and ":" not in address
    if listens:  # as a service would: connections that have ended do not count
        each.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
    each.bind((address, number))
    if listens:
        each.listen(1)  # without it another could do the same


def hold_again(wanted: Iterable[Held], held: set[Held]) -> tuple[int, ...]:
    """Hold what can be had of some ports, add it to what is ``held``, and return the descriptor that does it, if any.

    Raises:
        OSError: no descriptor is left (EMFILE).
    """
    found: list[Held] = []
    opened: list[sockets.Socket] = []
    with Keeper() as keeper:
        for each in wanted:
            try:
                opened += bind(each[0], (each[1],), each[2])
            except OSError:  # somebody has taken it meanwhile, or the host has no such address now
                continue
            found.append(each)
        keeper.keep(opened)
        for bound in opened:
            bound.close()
        kept = (os.dup(keeper.fileno()),) if found else ()
    held.update(found)
    return kept


def write(bundle: str, held: Iterable[Held]) -> None:
    """Note which ports lead to a container now.

    Raises:
        OSError: it cannot be written.
    """
    path = os.path.join(bundle, FILE)
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write("".join(" ".join(map(str, each)) + "\n" for each in held))
    os.replace(path + ".new", path)


def read(bundle: str) -> list[Held]:
    """Return which ports led to a container when it ran last.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with open(os.path.join(bundle, FILE), encoding="ascii") as file:
            lines = [line.split() for line in file]
    except FileNotFoundError:
        return []
    known = (words for words in lines if len(words) == 4)
    return [(protocol, address, int(number), int(inner)) for protocol, address, number, inner in known]
