"""Domains of any hypervisor that libvirt knows, by its URI: found, started, ended, saved, kept as snapshots.

These are the hypervisor's own, whoever defined them, and libvirt's words mean what they mean there: create starts a
domain, destroy powers it off. Machines from images are in ``lab.machine``.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import libvirt

from lab.errors import NoSuchMachine, StateConflict, UnavailableError
from lab.paths import Paths
from lab.vm.connection import domain_error, is_gone, quiet, reason

T = TypeVar("T")

_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: "no state",
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "idle",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "in shutdown",
    libvirt.VIR_DOMAIN_SHUTOFF: "shut off",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "pmsuspended",
}
"""virsh's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainView:
    """A domain as its hypervisor tells of it; ``number`` is its id while it runs, 0 else."""

    name: str
    uuid: str
    number: int
    state: str
    vcpus: int
    memory_bytes: int
    is_persistent: bool


def open_domains(paths: Paths, uri: str) -> Domains:
    """Return the domains of a hypervisor.

    Raises:
        UnavailableError: libvirt cannot open the URI.
    """
    del paths  # of no use to a hypervisor of its own, but who asks has them
    quiet()
    try:
        return Domains(libvirt.open(uri), uri)
    except libvirt.libvirtError as error:
        raise UnavailableError(f"cannot open {uri}: {reason(error)}", hint="lab vm hypervisors") from error


class Domains:
    """All domains of one connection."""

    def __init__(self, handle: libvirt.virConnect, uri: str) -> None:
        """Take over an open connection."""
        self._handle = handle
        self._uri = uri

    def close(self) -> None:
        """Close the connection."""
        self._handle.close()

    def all(self) -> tuple[DomainView, ...]:
        """Return all domains, by name.

        Raises:
            DomainError: the hypervisor refused.
        """
        handles = self._call(f"list the domains of {self._uri}", self._handle.listAllDomains)
        return tuple(sorted((_view(each) for each in handles), key=lambda view: view.name))

    def get(self, reference: str) -> DomainView:
        """Return the domain of this name, UUID or number.

        Raises:
            NoSuchMachine: there is none.
        """
        return _view(self._find(reference))

    def xml(self, reference: str) -> str:
        """Return a domain's XML.

        Raises:
            NoSuchMachine: there is none.
            DomainError: the hypervisor refused.
        """
        with self._domain("describe", reference) as domain:
            text: str = domain.XMLDesc()
            return text

    def start(self, reference: str) -> None:
        """Start a domain that is defined.

        Raises:
            NoSuchMachine, DomainError: there is none, or the hypervisor refused.
        """
        with self._domain("start", reference) as domain:
            domain.create()

    def shutdown(self, reference: str) -> None:
        """Ask a domain to end; whether it does is its own affair.

        Raises:
            NoSuchMachine, DomainError: there is none, or the hypervisor refused.
        """
        with self._domain("shut down", reference) as domain:
            domain.shutdown()

    def destroy(self, reference: str) -> None:
        """Power a domain off.

        Raises:
            NoSuchMachine, DomainError: there is none, or the hypervisor refused.
        """
        with self._domain("destroy", reference) as domain:
            domain.destroy()

    def remove(self, reference: str, *, force: bool = False) -> None:
        """Undefine a domain with what libvirt keeps of it; its disks stay.

        Raises:
            NoSuchMachine: there is none.
            StateConflict: it runs, and this is not by force.
            DomainError: the hypervisor refused.
        """
        with self._domain("remove", reference) as domain:
            if domain.isActive():
                if not force:
                    raise StateConflict(
                        f"domain {reference} runs", hint=f"lab vm destroy --connect {self._uri} {reference}"
                    )
                is_persistent = domain.isPersistent()
                domain.destroy()
                if not is_persistent:
                    return
            domain.undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            )

    def save(self, reference: str, path: str) -> None:
        """Write a domain's memory to a file of the hypervisor's host, and end it.

        Raises:
            NoSuchMachine, DomainError: there is none, or the hypervisor refused.
        """
        with self._domain("save", reference) as domain:
            domain.save(path)

    def restore(self, path: str) -> None:
        """Have a saved domain go on.

        Raises:
            DomainError: the hypervisor refused.
        """
        self._call(f"restore {path}", lambda: self._handle.restore(path))

    def snapshots(self, reference: str) -> tuple[tuple[str, int, str], ...]:
        """Return a domain's snapshots: name, time of day in seconds, state.

        Raises:
            NoSuchMachine, DomainError: there is none, or the hypervisor refused.
        """
        with self._domain("list the snapshots of", reference) as domain:
            trees = [ET.fromstring(snapshot.getXMLDesc()) for snapshot in domain.listAllSnapshots()]
        found = [
            (tree.findtext("name") or "", int(tree.findtext("creationTime") or 0), tree.findtext("state") or "")
            for tree in trees
        ]
        return tuple(sorted(found, key=lambda snapshot: snapshot[1]))

    def make_snapshot(self, reference: str, name: str) -> None:
        """Keep a domain as it is under a name.

        Raises:
            NoSuchMachine, DomainError: there is none, or the hypervisor refused.
        """
        document = ET.Element("domainsnapshot")
        ET.SubElement(document, "name").text = name
        with self._domain(f"make the snapshot {name} of", reference) as domain:
            domain.snapshotCreateXML(ET.tostring(document, encoding="unicode"))

    def revert(self, reference: str, name: str) -> None:
        """Have a domain be as it was.

        Raises:
            NoSuchMachine, DomainError: there is none, or the hypervisor refused.
        """
        with self._domain(f"revert to the snapshot {name}", reference) as domain:
            domain.revertToSnapshot(domain.snapshotLookupByName(name))

    def remove_snapshot(self, reference: str, name: str) -> None:
        """Remove a snapshot.

        Raises:
            NoSuchMachine, DomainError: there is none, or the hypervisor refused.
        """
        with self._domain(f"remove the snapshot {name} of", reference) as domain:
            domain.snapshotLookupByName(name).delete()

    def stats(self, reference: str) -> Mapping[str, object]:
        """Return what the hypervisor counts of a running domain, in libvirt's names (virsh domstats).

        Raises:
            NoSuchMachine, DomainError: there is none, or the hypervisor does not count.
        """
        with self._domain("read the statistics of", reference) as domain:
            ((_, found),) = self._handle.domainListGetStats([domain])
            return dict(found)

    def _find(self, reference: str) -> libvirt.virDomain:
        searches: list[Callable[[], libvirt.virDomain]] = [
            lambda: self._handle.lookupByName(reference),
            lambda: self._handle.lookupByUUIDString(reference),
        ]
        if reference.isdecimal():
            searches.append(lambda: self._handle.lookupByID(int(reference)))
        for search in searches:
            try:
                return search()
            except libvirt.libvirtError as error:
                if not is_gone(error) and error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
                    raise domain_error(f"find domain {reference}", error) from error
        raise NoSuchMachine(f"{self._uri} has no domain {reference}", hint=f"lab vm ls -a --connect {self._uri}")

    @contextmanager
    def _domain(self, what: str, reference: str) -> Iterator[libvirt.virDomain]:
        domain = self._find(reference)
        try:
            yield domain
        except libvirt.libvirtError as error:
            raise domain_error(f"{what} domain {reference} of {self._uri}", error) from error

    def _call(self, what: str, act: Callable[[], T]) -> T:
        try:
            return act()
        except libvirt.libvirtError as error:
            raise domain_error(what, error) from error


def _view(domain: libvirt.virDomain) -> DomainView:
    state, _, memory_kib, vcpus, _ = domain.info()
    return DomainView(
        name=domain.name(),
        uuid=domain.UUIDString(),
        number=max(domain.ID(), 0),
        state=_STATES.get(state, "unknown"),
        vcpus=vcpus,
        memory_bytes=memory_kib * 1024,
        is_persistent=bool(domain.isPersistent()),
    )
