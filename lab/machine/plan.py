"""What a user asks for, and what the image says -> the main command of a guest, as a container would have it; pure."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lab.container import port_bindings, user_database
from lab.container.defaults import PATH
from lab.container.options.configure import arguments, environment
from lab.container.options.run import RunOptions
from lab.container.spec.image import ExecutionConfig
from lab.errors import SpecError
from lab.machine.record import Forward, MachineNetwork, MachineProcess

_LOOPBACKS = ("", "127.0.0.1", "localhost")


def plan_process(
    machine_id: str,
    options: RunOptions,
    image: ExecutionConfig,
    *,
    passwd: str,
    group: str,
    environ: Mapping[str, str],
) -> MachineProcess:
    """Return the main command; ``passwd`` and ``group`` are the texts of the image's files.

    Raises:
        SpecError: there is no command, or no such user.
    """
    given = environment(image.env, options.env, environ)
    user = options.user or image.user or "0"
    try:
        uid, gid, groups = user_database.identify(user, options.groups, passwd, group)
    except LookupError as error:
        raise SpecError(str(error), hint="--user UID") from error
    host_name = options.hostname or machine_id[:12]
    basic = basic_environment(host_name, terminal=options.terminal, home=user_database.home(uid, passwd))
    return MachineProcess(
        args=arguments(options, image),
        env=merged(basic, given),
        cwd=os.path.normpath(options.workdir or image.working_dir or "/"),
        uid=uid,
        gid=gid,
        groups=groups,
    )


def basic_environment(host_name: str, *, terminal: bool, home: str) -> tuple[str, ...]:
    """Return what every program has in its environment."""
    return (PATH, f"HOSTNAME={host_name}", *(("TERM=xterm",) if terminal else ()), f"HOME={home}")


def merged(first: tuple[str, ...], later: tuple[str, ...]) -> tuple[str, ...]:
    """Return two environments as one; the later one counts where both have a name."""
    return tuple({line.partition("=")[0]: line for line in (*first, *later)}.values())


def pairs(env: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return an environment as names and values; a line without "=" is none."""
    return tuple((name, value) for name, separator, value in (line.partition("=") for line in env) if separator)


def plan_forwards(options: RunOptions, network: MachineNetwork) -> tuple[Forward, ...]:
    """Return the published ports; a host's port 0 is one that is still to be chosen.

    Raises:
        SpecError: a port cannot be published to a guest.
    """
    found = []
    for port, hosts in port_bindings.published(options.publish).items():
        for host in hosts:
            if port.protocol != "tcp" or host.address not in _LOOPBACKS or host.last:
                raise SpecError(
                    f"port {port} cannot be published to a guest: only single TCP ports of the host's loopback can",
                    hint="-p 8080:80, or --network tap, where the host reaches every port by the guest's address",
                )
            found.append(Forward(host=host.number, guest=port.number))
    if found and network is not MachineNetwork.USER:
        raise SpecError(f"ports are published with --network user only, not with {network}")
    return tuple(found)


def plan_vcpus(cpus: float | None) -> int:
    """Return how many processors a guest has: whole ones.

    Raises:
        SpecError: it is no whole number of them.
    """
    if cpus is None:
        return 1
    if cpus != int(cpus) or cpus < 1:
        raise SpecError(f"a guest has whole processors, not {cpus:g}", hint="--cpus 1")
    return int(cpus)
