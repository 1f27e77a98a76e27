"""docker's flags for a container that is to be made -> what is asked for."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
from dataclasses import replace

from lab.cli.flag_values import duration_ns, size, size_or_unlimited
from lab.cli.list_flags import pairs
from lab.container.options import endpoints
from lab.container.options.run import RunOptions
from lab.container.spec.image import Healthcheck
from lab.errors import SpecError

_RESTARTS = ("no", "always", "unless-stopped", "on-failure")
_ON_UNHEALTHY = ("none", "kill", "restart", "stop")
_HEALTH_TIMES = {
    "interval": "how long after one check the next one comes, such as 30s; 0: the image's, or 30s",
    "timeout": "how long one check may take; 0: the image's, or 30s",
    "start-period": "how long after the start failures do not count; 0: the image's, or none",
    "start-interval": "in place of the interval, before the first success in the start period; 0: the image's, or 5s",
}
_BLOCK_IO = ("blkio-weight", "device-read-bps", "device-write-bps", "device-read-iops", "device-write-iops")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add all that can be said of a container, its image and its command."""
    _add_identity(parser)
    add_program(parser)
    parser.add_argument("--domainname", metavar="NAME", default="", help="domain name")
    _add_life(parser)
    _add_limits(parser)
    _add_rights(parser)
    _add_storage(parser)
    _add_network(parser)
    _add_namespaces(parser)
    parser.add_argument("image", metavar="IMAGE", help="name, id, or the beginning of an id")
    parser.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="program and its arguments")


def _add_identity(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--name", default="", help="a name for the container (default: one is made up)")
    add("--cidfile", metavar="FILE", default="", help="write the container's id to this file, which must not exist")
    add("-l", "--label", metavar="NAME[=VALUE]", action="append", default=[], help="a label; repeatable")
    add("--label-file", metavar="FILE", action="append", default=[], help="labels, one a line; repeatable")
    add("--annotation", metavar="NAME=VALUE", action="append", default=[], help="an OCI annotation; repeatable")
    add("--pull", choices=("always", "missing", "never"), default="missing", help="when to fetch the image")
    add("--platform", metavar="PLATFORM", default="", help="the image for this platform, such as linux/arm64")
    add("-q", "--quiet", action="store_true", help="show nothing while an image is fetched")


def add_program(parser: argparse.ArgumentParser) -> None:
    """Add what a program is given in a container as in a guest: streams, environment, directory, user, host name."""
    add = parser.add_argument
    add("-i", "--interactive", action="store_true", help="keep standard input open")
    add("-t", "--tty", action="store_true", help="give it a terminal")
    add("-e", "--env", metavar="NAME[=VALUE]", action="append", default=[], help="a variable; repeatable")
    add("--env-file", metavar="FILE", action="append", default=[], help="variables, one a line; repeatable")
    add("-w", "--workdir", metavar="DIR", default="", help="working directory")
    add("-u", "--user", metavar="USER[:GROUP]", default="", help="name or number")
    add("--group-add", metavar="GROUP", action="append", default=[], help="a further group; repeatable")
    add("--entrypoint", metavar="PROGRAM", default=None, help="in place of the image's; empty for none")
    add("-h", "--hostname", metavar="NAME", default="", help="host name (default: the beginning of the id)")


def _add_life(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--rm", action="store_true", help="remove the container when it has ended")
    add("--init", action="store_true", help="run an init as process 1, which reaps and forwards signals")
    add("--restart", metavar="POLICY", default="no", help="no, always, unless-stopped, on-failure[:TIMES]")
    add("--stop-signal", metavar="SIGNAL", default="", help="what asks it to end (default: the image's, or TERM)")
    add("--stop-timeout", metavar="SECONDS", type=int, default=None, help="how long a stop waits (default: 10)")
    add("--health-cmd", metavar="COMMAND", default="", help="how to find out whether it works, by a shell")
    for flag, text in _HEALTH_TIMES.items():
        add(f"--health-{flag}", metavar="DURATION", type=duration_ns, default=0, help=text)
    add("--health-retries", metavar="N", type=int, default=0, help="failures in a row until it is unhealthy (3)")
    add("--health-on-failure", choices=_ON_UNHEALTHY, default="none", help="what is done to one that is unhealthy")
    add("--no-healthcheck", action="store_true", help="ask nothing, whatever the image says")
    add(
        "--log-driver",
        choices=("json-file", "local", "none"),
        default="json-file",
        help="none: nothing is kept; else a file",
    )
    add("--log-opt", metavar="NAME=VALUE", action="append", default=[], help="max-size, max-file, compress; repeatable")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-m", "--memory", metavar="BYTES", type=size, help="such as 512m")
    add("--memory-swap", metavar="BYTES", type=size_or_unlimited, help="memory and swap together; -1 for any amount")
    add("--memory-reservation", metavar="BYTES", type=size, help="what it is asked to stay below under pressure")
    add("--memory-swappiness", metavar="N", type=int, default=None, help="0 to 100")
    add("--cpus", metavar="N", type=float, default=None, help="processors' worth of time, such as 1.5")
    add("-c", "--cpu-shares", metavar="N", type=int, default=None, help="weight beside other containers (1024)")
    add("--cpu-period", metavar="US", type=int, default=None, help="length of a period in microseconds")
    add("--cpu-quota", metavar="US", type=int, default=None, help="CPU time in each period, in microseconds")
    add("--cpuset-cpus", metavar="LIST", default="", help="processors it may use, such as 0-1")
    add("--cpuset-mems", metavar="LIST", default="", help="memory nodes it may use")
    add("--pids-limit", metavar="N", type=int, default=None, help="most tasks; -1 for any number")
    add("--ulimit", metavar="NAME=SOFT[:HARD]", action="append", default=[], help="repeatable")
    for flag in _BLOCK_IO:
        add(
            f"--{flag}",
            metavar="VALUE" if flag == "blkio-weight" else "DEVICE:VALUE",
            action="append",
            default=[],
            help="limit or weight of block devices",
        )
    add("--oom-score-adj", metavar="N", type=int, default=None, help="-1000 to 1000")
    add("--oom-kill-disable", action="store_true", help="let it wait for memory in place of killing it")


def _add_rights(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cap-add", metavar="CAPABILITY", action="append", default=[], help="repeatable; ALL for all")
    add("--cap-drop", metavar="CAPABILITY", action="append", default=[], help="repeatable; ALL for all")
    add("--privileged", action="store_true", help="all capabilities and devices that the host has")
    add("--security-opt", metavar="OPTION", action="append", default=[], help="no-new-privileges, seccomp=FILE, …")
    add("--device", metavar="HOST[:CONTAINER[:rwm]]", action="append", default=[], help="a device; repeatable")
    add("--device-cgroup-rule", metavar="RULE", action="append", default=[], help="such as 'c 10:200 rwm'; repeatable")
    add("--sysctl", metavar="NAME=VALUE", action="append", default=[], help="a namespaced kernel setting; repeatable")
    add("--trust-host-ca", action="store_true", help="let it trust whom this host trusts, behind a TLS proxy")


def _add_storage(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-v", "--volume", metavar="[SOURCE:]PATH[:ro]", action="append", default=[], help="repeatable")
    add("--mount", metavar="type=TYPE,…", action="append", default=[], help="a volume, bind or tmpfs; repeatable")
    add("--volumes-from", metavar="CONTAINER[:ro]", action="append", default=[], help="what it has; repeatable")
    add("--tmpfs", metavar="PATH[:OPTIONS]", action="append", default=[], help="a file system in memory; repeatable")
    add("--read-only", action="store_true", help="nothing of the root file system can be written")
    add("--shm-size", metavar="BYTES", type=size, help="size of /dev/shm (default: 64m)")


def _add_network(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--network",
        "--net",
        metavar="NETWORK",
        action="append",
        default=[],
        help="bridge, none, host, container:NAME, or one of `lab network ls`; repeatable",
    )
    add("--network-alias", "--net-alias", metavar="NAME", action="append", default=[], help="a further name on it")
    add("--ip", metavar="ADDRESS", default="", help="its IPv4 address there")
    add("--ip6", metavar="ADDRESS", default="", help="its IPv6 address there")
    add("--mac-address", metavar="ADDRESS", default="", help="its hardware address there")
    add("-p", "--publish", metavar="[IP:][HOST:]CONTAINER", action="append", default=[], help="a port; repeatable")
    add("-P", "--publish-all", action="store_true", help="publish all exposed ports")
    add("--expose", metavar="PORT", action="append", default=[], help="say that it listens; repeatable")
    add("--add-host", metavar="NAME:ADDRESS", action="append", default=[], help="a line of /etc/hosts; repeatable")
    add("--dns", metavar="ADDRESS", action="append", default=[], help="a name server; repeatable")
    add("--dns-search", metavar="DOMAIN", action="append", default=[], help="repeatable; . for none")
    add("--dns-option", "--dns-opt", metavar="OPTION", action="append", default=[], help="repeatable")


def _add_namespaces(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    for flag in ("pid", "ipc", "uts", "userns", "cgroupns"):
        add(f"--{flag}", metavar="MODE", default="", help="private, host, or container:NAME where it can be joined")
    add("--cgroup-parent", metavar="PATH", default="", help="cgroup below which it gets its own")


def options_of(arguments: argparse.Namespace) -> RunOptions:
    """Return what the arguments ask for.

    Raises:
        SpecError: one of them is wrong.
    """
    options = RunOptions(
        image=arguments.image,
        platform=arguments.platform,
        command=tuple(arguments.command),
    )
    for add in (_with_program, _with_life, _with_limits, _with_rights, _with_surroundings):
        options = add(options, arguments)
    return options


def _with_program(options: RunOptions, arguments: argparse.Namespace) -> RunOptions:
    given = arguments.entrypoint
    return replace(
        options,
        entrypoint=None if given is None else (given,) if given else (),
        env=(*_lines(arguments.env_file), *_variables(arguments.env)),
        labels=pairs((*_lines(arguments.label_file), *arguments.label)),
        annotations=pairs(arguments.annotation),
        hostname=arguments.hostname,
        domainname=arguments.domainname,
        workdir=arguments.workdir,
        user=arguments.user,
        groups=tuple(arguments.group_add),
        terminal=arguments.tty,
        open_stdin=arguments.interactive,
    )


def _with_life(options: RunOptions, arguments: argparse.Namespace) -> RunOptions:
    policy, most = restart_policy(arguments.restart, removes=arguments.rm)
    return replace(
        options,
        removes=arguments.rm,
        restart=policy,
        restarts_most=most,
        stop_signal=arguments.stop_signal,
        stop_timeout_s=arguments.stop_timeout,
        init=arguments.init,
        healthcheck=_healthcheck(arguments),
        health_on_failure=arguments.health_on_failure,
        log_driver=arguments.log_driver,
        log_options=pairs(arguments.log_opt),
    )


def _with_limits(options: RunOptions, arguments: argparse.Namespace) -> RunOptions:
    return replace(
        options,
        memory_bytes=arguments.memory or None,
        memory_swap_bytes=arguments.memory_swap or None,
        memory_reservation_bytes=arguments.memory_reservation or None,
        memory_swappiness=None if arguments.memory_swappiness == -1 else arguments.memory_swappiness,
        cpus=arguments.cpus or None,
        cpu_shares=arguments.cpu_shares,
        cpu_period_us=arguments.cpu_period,
        cpu_quota_us=arguments.cpu_quota,
        cpuset_cpus=arguments.cpuset_cpus,
        cpuset_mems=arguments.cpuset_mems,
        pids_limit=arguments.pids_limit,
        block_io=tuple(f"{flag}={text}" for flag in _BLOCK_IO for text in getattr(arguments, flag.replace("-", "_"))),
        oom_score_adj=arguments.oom_score_adj,
        oom_kill_disable=arguments.oom_kill_disable,
        ulimits=tuple(arguments.ulimit),
        shm_bytes=arguments.shm_size,
    )


def _with_rights(options: RunOptions, arguments: argparse.Namespace) -> RunOptions:
    return replace(
        options,
        cap_add=tuple(arguments.cap_add),
        cap_drop=tuple(arguments.cap_drop),
        privileged=arguments.privileged,
        security_options=tuple(arguments.security_opt),
        read_only=arguments.read_only,
        sysctls=tuple(arguments.sysctl),
        devices=tuple(arguments.device),
        device_rules=tuple(arguments.device_cgroup_rule),
        trusts_host_ca=arguments.trust_host_ca,
    )


def _with_surroundings(options: RunOptions, arguments: argparse.Namespace) -> RunOptions:
    asked = endpoints.asked(
        arguments.network,
        aliases=arguments.network_alias,
        address=arguments.ip,
        address6=arguments.ip6,
        mac=arguments.mac_address,
    )
    return replace(
        options,
        tmpfs=tuple(arguments.tmpfs),
        volumes=tuple(map(volume, arguments.volume)),
        mounts=tuple(arguments.mount),
        volumes_from=tuple(arguments.volumes_from),
        network=asked[0].network if asked else "bridge",
        endpoints=asked,
        publish=tuple(arguments.publish),
        publish_all=arguments.publish_all,
        expose=tuple(arguments.expose),
        add_hosts=tuple(arguments.add_host),
        dns=tuple(map(_address, arguments.dns)),
        dns_search=tuple(arguments.dns_search),
        dns_options=tuple(arguments.dns_option),
        pid=arguments.pid,
        ipc=arguments.ipc,
        uts=arguments.uts,
        userns=arguments.userns,
        cgroupns=arguments.cgroupns,
        cgroup_parent=arguments.cgroup_parent,
    )


def restart_policy(text: str, *, removes: bool = False) -> tuple[str, int]:
    """Return a policy's name and the most restarts (0: any number); ``removes`` is --rm, which allows none.

    Raises:
        SpecError: there is no such policy.
    """
    name, separator, count = text.partition(":")
    if (name or "no") not in _RESTARTS:
        raise SpecError(f"invalid restart policy: unknown policy '{name}'; use one of {', '.join(_RESTARTS)}")
    if separator and (name != "on-failure" or not count.isdigit()):
        raise SpecError(f"invalid restart policy format: {text}", hint="such as on-failure:3")
    if removes and name not in ("", "no"):
        raise SpecError("conflicting options: cannot specify both --restart and --rm")
    return name or "no", int(count or 0)


def _healthcheck(arguments: argparse.Namespace) -> Healthcheck | None:
    numbers = {name: getattr(arguments, f"health_{name.replace('-', '_')}") for name in (*_HEALTH_TIMES, "retries")}
    if not (arguments.health_cmd or any(numbers.values())):
        return Healthcheck(test=("NONE",)) if arguments.no_healthcheck else None
    if arguments.no_healthcheck:
        raise SpecError("--no-healthcheck conflicts with --health-* options")
    for name, number in numbers.items():
        if number < 0:
            raise SpecError(f"--health-{name} cannot be negative")
    return Healthcheck(
        test=("CMD-SHELL", arguments.health_cmd) if arguments.health_cmd else (),
        interval=numbers["interval"],
        timeout=numbers["timeout"],
        start_period=numbers["start-period"],
        start_interval=numbers["start-interval"],
        retries=numbers["retries"],
    )


def _lines(paths: list[str]) -> list[str]:
    """Return the lines of files of variables or labels: no quotes, no expansion, # begins a comment."""
    found: list[str] = []
    for path in paths:
        try:
            with open(path, encoding="utf-8-sig") as file:
                lines = [line.rstrip("\r\n").lstrip() for line in file]
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"open {path}: {getattr(error, 'strerror', None) or error}") from error
        for number, line in enumerate(lines, 1):
            if not line or line.startswith("#"):
                continue
            name = line.partition("=")[0]
            if not name:
                raise SpecError(f"no variable name on line '{line}'", path=path, line=number)
            if any(character.isspace() for character in name):
                raise SpecError(f"variable '{name}' contains whitespaces", path=path, line=number)
            found.append(line)
    return found


def environment_lines(files: list[str], given: list[str]) -> tuple[str, ...]:
    """Return the variables of --env-file and --env as "NAME=VALUE"; a name alone takes its value from our own.

    Raises:
        SpecError: a file cannot be read, or has a line that is none.
    """
    lines = (*_lines(files), *_variables(given))
    found = (
        line if "=" in line else f"{line}={os.environ[line]}" for line in lines if "=" in line or line in os.environ
    )
    return tuple(found)


def _variables(given: list[str]) -> list[str]:
    for text in given:
        if not text.partition("=")[0]:
            raise SpecError(f'invalid argument "{text}" for "-e, --env" flag: invalid environment variable: {text}')
    return given


def _address(text: str) -> str:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, text.strip())
            return text.strip()
    raise SpecError(f'invalid argument "{text}" for "--dns" flag: {text} is not an ip address')


def volume(text: str) -> str:
    """Return a volume with a relative source, which begins with a dot, made absolute."""
    source, separator, rest = text.partition(":")
    if separator and source.startswith("."):
        return f"{os.path.abspath(source)}:{rest}"
    return text
