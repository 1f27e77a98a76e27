"""A machine's record -> what the guest's init is told: the main command, and files of /etc as containers have them."""

from __future__ import annotations

from lab.container.options.names import etc_content
from lab.container.starting import read_if_there
from lab.machine.plan import pairs
from lab.machine.record import MachineRecord
from lab.vm import network
from lab.vm.domain_spec import DomainNetwork, UserNetwork
from lab.vm.guest_agent import GuestCommand

INITIAL_SIZE = (24, 80)
_USER_NAMESERVER = "10.0.2.3"  # Source: QEMU docs/system/devices/net.rst


def guest_command(record: MachineRecord) -> GuestCommand:
    """Return the main command; its terminal is told its size when somebody is there to look at it."""
    process = record.process
    return GuestCommand(
        argv=process.args,
        env=pairs(process.env),
        cwd=process.cwd,
        user=(process.uid, process.gid, process.groups),
        terminal=INITIAL_SIZE if record.options.terminal else None,
        input_open=record.options.open_stdin,
    )


def guest_settings(record: MachineRecord, link: DomainNetwork | UserNetwork | None) -> tuple[str, ...]:
    """Return the host's name and the three files of /etc, in the words of ``guest_agent``."""
    addresses, gateway, nameserver = _place(link)
    files = etc_content(
        record.options, record.id, read=read_if_there, addresses=addresses, gateway=gateway, nameserver=nameserver
    )
    name = files["hostname"].strip()
    return (f"hostname={name}", *(f"write=/etc/{file}:{text}" for file, text in files.items()))


def _place(link: DomainNetwork | UserNetwork | None) -> tuple[tuple[str, ...], str, str]:
    if isinstance(link, UserNetwork):
        return (network.USER_GUEST,), network.USER_GATEWAY, _USER_NAMESERVER
    if link is not None:
        return (link.guest_address,), link.host_address, ""
    return (), "", ""
