"""Which keys a compose file has, and what each has to be: the table that files are checked and made uniform by.

Source: https://github.com/compose-spec/compose-spec/blob/main/spec.md; for what it no longer has, the formats 2.x and
3.x of docker-compose 1.29.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.compose import short_forms
from lab.compose.model import Condition, MountType, WatchAction
from lab.compose.shapes import (
    BYTES,
    COUNT,
    DURATION,
    MICROSECONDS,
    NUMBER,
    PORT,
    SCALAR,
    TRUTH,
    WHOLE,
    Anything,
    Choice,
    Converted,
    Expanded,
    ListOf,
    MapOf,
    OctalMode,
    Pairs,
    Refused,
    Section,
    Shape,
    Short,
    Text,
    Words,
)
from lab.compose.tree import Node, below, kind

_NAME = r"[A-Za-z0-9._-]+"
_TEXT = Text()
_TEXTS = ListOf(SCALAR)
_LONE_OR_TEXTS = ListOf(SCALAR, alone=True)
_PAIRS = Pairs()


class _Hosts:
    """Hosts and their addresses: a list of "NAME:ADDRESS", or a mapping of names to one address or several."""

    def read(self, node: Node, where: str) -> Node:
        """Return the mapping of names to lists of addresses."""
        if isinstance(node.value, Mapping):
            return MapOf(_LONE_OR_TEXTS).read(node, where)
        found: dict[str, list[Node]] = {}
        for index, item in enumerate(_TEXTS.read(node, where).items()):
            try:
                name, address = short_forms.hosts(item.text())
            except ValueError as error:
                raise item.wrong(below(where, index), str(error)) from None
            found.setdefault(name, []).append(item.having(address))
        return node.having({name: node.having(addresses) for name, addresses in found.items()})


class _HealthTest:
    """A command for the shell, or a list that begins with what kind of command it is."""

    def read(self, node: Node, where: str) -> Node:
        """Return the list."""
        found = _TEXTS.read(short_forms.health_test(node), where)
        words = [item.text() for item in found.items()]
        if words and words[0] not in ("NONE", "CMD", "CMD-SHELL"):
            raise node.wrong(where, "a list has to begin with NONE, CMD or CMD-SHELL")
        return found


class External:
    """Whether something is there already; the old way to say its name with it."""

    def read(self, node: Node, where: str) -> Node:
        """Return the truth value, or the mapping that has the name."""
        return EXTERNAL_NAME.read(node, where) if isinstance(node.value, Mapping) else TRUTH.read(node, where)


class _Scalars:
    """The parameters of a driver: a mapping only."""

    def read(self, node: Node, where: str) -> Node:
        """Return the mapping of texts."""
        if isinstance(node.value, Sequence):
            raise node.wrong(where, f"has to be a mapping, not {kind(node.value)}")
        return _PAIRS.read(node, where)


EXTERNAL_NAME = Section({"name": _TEXT})
_SCALARS = _Scalars()

ULIMIT = Short(Section({"soft": WHOLE, "hard": WHOLE}, required=("soft", "hard")), short_forms.ulimit)

SERVICE_PORT = Section(
    {
        "target": PORT,
        "published": Text(what="a port or a range of ports", form=r"(\d+(-\d+)?)?"),
        "host_ip": _TEXT,
        "protocol": Choice(("tcp", "udp", "sctp")),
        "mode": Choice(("ingress", "host")),
        "name": _TEXT,
        "app_protocol": _TEXT,
    },
    required=("target",),
)

SERVICE_VOLUME = Section(
    {
        "type": Choice(tuple(map(str, MountType))),
        "source": _TEXT,
        "target": Text(what="a path in the container", form=r".+"),
        "read_only": TRUTH,
        "consistency": _TEXT,
        "bind": Section(
            {
                "propagation": _TEXT,
                "create_host_path": TRUTH,
                "recursive": Choice(("enabled", "disabled", "writable", "readonly")),
                "selinux": Choice(("z", "Z")),
            }
        ),
        "volume": Section({"nocopy": TRUTH, "subpath": _TEXT, "labels": _PAIRS}),
        "tmpfs": Section({"size": BYTES, "mode": OctalMode()}),
        "image": Section({"subpath": _TEXT}),
    },
    required=("type", "target"),
)

FILE_REFERENCE = Section(
    {"source": _TEXT, "target": _TEXT, "uid": _TEXT, "gid": _TEXT, "mode": OctalMode()}, required=("source",)
)
_FILE_REFERENCES = Expanded(FILE_REFERENCE, short_forms.file_references)

BUILD = Section(
    {
        "context": _TEXT,
        "dockerfile": _TEXT,
        "dockerfile_inline": _TEXT,
        "args": Pairs(valueless=True),
        "target": _TEXT,
        "labels": _PAIRS,
        "cache_from": _TEXTS,
        "cache_to": _TEXTS,
        "network": _TEXT,
        "no_cache": TRUTH,
        "pull": TRUTH,
        "shm_size": BYTES,
        "extra_hosts": _Hosts(),
        "secrets": _FILE_REFERENCES,
        "additional_contexts": _PAIRS,
        "tags": _TEXTS,
        "platforms": _TEXTS,
        "ulimits": MapOf(ULIMIT),
        "privileged": TRUTH,
        "entitlements": _TEXTS,
        "isolation": _TEXT,
        "provenance": SCALAR,
        "sbom": SCALAR,
        "ssh": Anything(),
    }
)

HEALTHCHECK = Section(
    {
        "test": _HealthTest(),
        "interval": DURATION,
        "timeout": DURATION,
        "retries": COUNT,
        "start_period": DURATION,
        "start_interval": DURATION,
        "disable": TRUTH,
    }
)

_UPDATE = Section(
    {
        "parallelism": WHOLE,
        "delay": DURATION,
        "failure_action": _TEXT,
        "monitor": DURATION,
        "max_failure_ratio": NUMBER,
        "order": Choice(("start-first", "stop-first")),
    }
)

DEPLOY = Section(
    {
        "mode": Choice(("replicated", "global", "replicated-job", "global-job")),
        "replicas": COUNT,
        "labels": _PAIRS,
        "endpoint_mode": _TEXT,
        "update_config": _UPDATE,
        "rollback_config": _UPDATE,
        "placement": Section(
            {"constraints": _TEXTS, "preferences": ListOf(Anything()), "max_replicas_per_node": WHOLE}
        ),
        "resources": Section(
            {
                "limits": Section({"cpus": NUMBER, "memory": BYTES, "pids": WHOLE}),
                "reservations": Section(
                    {
                        "cpus": NUMBER,
                        "memory": BYTES,
                        "pids": WHOLE,
                        "generic_resources": ListOf(Anything()),
                        "devices": ListOf(Anything()),
                    }
                ),
            }
        ),
        "restart_policy": Section(
            {
                "condition": Choice(("none", "on-failure", "any", "unless-stopped")),
                "delay": DURATION,
                "max_attempts": COUNT,
                "window": DURATION,
            }
        ),
    }
)

_BLKIO_RATES = ListOf(Section({"path": _TEXT, "rate": BYTES}, required=("path", "rate")))
BLKIO = Section(
    {
        "weight": WHOLE,
        "weight_device": ListOf(Section({"path": _TEXT, "weight": WHOLE}, required=("path", "weight"))),
        "device_read_bps": _BLKIO_RATES,
        "device_write_bps": _BLKIO_RATES,
        "device_read_iops": _BLKIO_RATES,
        "device_write_iops": _BLKIO_RATES,
    }
)

_HOOK: Mapping[str, Shape] = {
    "command": Words(),
    "user": _TEXT,
    "privileged": TRUTH,
    "working_dir": _TEXT,
    "environment": Pairs(valueless=True),
}
HOOK = Section(_HOOK, required=("command",))

WATCH_RULE = Section(
    {
        "action": Choice(tuple(map(str, WatchAction))),
        "path": _TEXT,
        "target": _TEXT,
        "ignore": _LONE_OR_TEXTS,
        "include": _LONE_OR_TEXTS,
        "initial_sync": TRUTH,
        "exec": Section(_HOOK),
    },
    required=("action", "path"),
)

SERVICE_NETWORK = Section(
    {
        "aliases": _TEXTS,
        "ipv4_address": _TEXT,
        "ipv6_address": _TEXT,
        "link_local_ips": _TEXTS,
        "mac_address": _TEXT,
        "interface_name": _TEXT,
        "driver_opts": _SCALARS,
        "priority": WHOLE,
        "gw_priority": WHOLE,
    }
)

DEPENDENCY = Section({"condition": Choice(tuple(map(str, Condition))), "required": TRUTH, "restart": TRUTH})

ENV_FILE = Section({"path": _TEXT, "required": TRUTH, "format": Choice(("raw",))}, required=("path",))

EXTENDS = Section({"service": _TEXT, "file": _TEXT}, required=("service",))

_VOLUMES_FROM = Converted(
    what="SERVICE[:MODE] or container:NAME[:MODE]", meaning=lambda text: text.removeprefix("service:")
)

_RESTART = Text(
    what="no, always, unless-stopped or on-failure[:TIMES]", form=r"no|always|unless-stopped|on-failure(:\d+)?|"
)
_PULL_POLICY = Text(
    what="always, never, missing, if_not_present, build, newer, daily, weekly or every_<duration>",
    form=r"always|never|missing|if_not_present|build|newer|refresh|daily|weekly|every_([0-9]+[wdhms])+",
)


class _Restart:
    """A restart policy; YAML of old reads ``no`` as a truth value."""

    def read(self, node: Node, where: str) -> Node:
        """Return the policy as docker writes it."""
        return _RESTART.read(node.having("no") if node.value is False else node, where)


SERVICE = Section(
    {
        "annotations": _PAIRS,
        "attach": TRUTH,
        "blkio_config": BLKIO,
        "build": Short(BUILD, short_forms.build),
        "cap_add": _TEXTS,
        "cap_drop": _TEXTS,
        "cgroup": Choice(("host", "private")),
        "cgroup_parent": _TEXT,
        "command": Words(may_lack=True),
        "configs": _FILE_REFERENCES,
        "container_name": Text(what="a container's name", form=r"[A-Za-z0-9][A-Za-z0-9_.-]+"),
        "cpu_count": WHOLE,
        "cpu_percent": NUMBER,
        "cpu_period": MICROSECONDS,
        "cpu_quota": MICROSECONDS,
        "cpu_rt_period": Anything(),
        "cpu_rt_runtime": Anything(),
        "cpu_shares": WHOLE,
        "cpus": NUMBER,
        "cpuset": _TEXT,
        "credential_spec": Anything(),
        "depends_on": Short(MapOf(DEPENDENCY, _NAME), short_forms.dependencies),
        "deploy": DEPLOY,
        "develop": Section({"watch": ListOf(WATCH_RULE)}),
        "device_cgroup_rules": _TEXTS,
        "devices": Expanded(
            Section({"source": _TEXT, "target": _TEXT, "permissions": _TEXT}, required=("source",)), short_forms.devices
        ),
        "dns": _LONE_OR_TEXTS,
        "dns_opt": _TEXTS,
        "dns_search": _LONE_OR_TEXTS,
        "domainname": _TEXT,
        "entrypoint": Words(may_lack=True),
        "env_file": Expanded(ENV_FILE, short_forms.env_files, alone=True),
        "environment": Pairs(valueless=True),
        "expose": _TEXTS,
        "extends": Short(EXTENDS, short_forms.extends),
        "external_links": _TEXTS,
        "extra_hosts": _Hosts(),
        "gpus": Anything(),
        "group_add": _TEXTS,
        "healthcheck": HEALTHCHECK,
        "hostname": _TEXT,
        "image": _TEXT,
        "init": TRUTH,
        "ipc": _TEXT,
        "isolation": _TEXT,
        "label_file": _LONE_OR_TEXTS,
        "labels": _PAIRS,
        "links": _TEXTS,
        "logging": Section({"driver": _TEXT, "options": _SCALARS}),
        "mac_address": _TEXT,
        "mem_limit": BYTES,
        "mem_reservation": BYTES,
        "mem_swappiness": WHOLE,
        "memswap_limit": BYTES,
        "models": Refused("models are not possible here"),
        "network_mode": _TEXT,
        "networks": Short(MapOf(SERVICE_NETWORK, _NAME), short_forms.networks),
        "oom_kill_disable": TRUTH,
        "oom_score_adj": WHOLE,
        "pid": _TEXT,
        "pids_limit": WHOLE,
        "platform": _TEXT,
        "ports": Expanded(SERVICE_PORT, short_forms.ports),
        "post_start": ListOf(HOOK),
        "pre_stop": ListOf(HOOK),
        "privileged": TRUTH,
        "profiles": ListOf(_TEXT),
        "provider": Refused("services that other programs provide are not possible here"),
        "pull_policy": _PULL_POLICY,
        "pull_refresh_after": DURATION,
        "read_only": TRUTH,
        "restart": _Restart(),
        "runtime": _TEXT,
        "scale": COUNT,
        "secrets": _FILE_REFERENCES,
        "security_opt": _TEXTS,
        "shm_size": BYTES,
        "stdin_open": TRUTH,
        "stop_grace_period": DURATION,
        "stop_signal": _TEXT,
        "storage_opt": Anything(),
        "sysctls": _PAIRS,
        "tmpfs": _LONE_OR_TEXTS,
        "tty": TRUTH,
        "ulimits": MapOf(ULIMIT),
        "use_api_socket": Refused(
            "the socket of an API is not mounted here", "name it under 'volumes' if there is one"
        ),
        "user": _TEXT,
        "userns_mode": _TEXT,
        "uts": _TEXT,
        "volume_driver": _TEXT,
        "volumes": Expanded(SERVICE_VOLUME, short_forms.volumes),
        "volumes_from": ListOf(_VOLUMES_FROM),
        "working_dir": _TEXT,
    },
    nullable=("command", "entrypoint"),
)

NETWORK = Section(
    {
        "name": _TEXT,
        "driver": _TEXT,
        "driver_opts": _SCALARS,
        "ipam": Section(
            {
                "driver": _TEXT,
                "config": ListOf(
                    Section({"subnet": _TEXT, "ip_range": _TEXT, "gateway": _TEXT, "aux_addresses": _SCALARS})
                ),
                "options": _SCALARS,
            }
        ),
        "external": External(),
        "internal": TRUTH,
        "attachable": TRUTH,
        "enable_ipv4": TRUTH,
        "enable_ipv6": TRUTH,
        "labels": _PAIRS,
    }
)

VOLUME = Section({"name": _TEXT, "driver": _TEXT, "driver_opts": _SCALARS, "external": External(), "labels": _PAIRS})

_FILE_OBJECT: Mapping[str, Shape] = {
    "name": _TEXT,
    "file": _TEXT,
    "environment": _TEXT,
    "external": External(),
    "labels": _PAIRS,
    "template_driver": Refused("templates are a swarm's"),
}
CONFIG = Section({**_FILE_OBJECT, "content": _TEXT})
SECRET = Section(
    {
        **_FILE_OBJECT,
        "content": _TEXT,
        "driver": Refused("drivers of secrets are a swarm's"),
        "driver_opts": Refused("drivers of secrets are a swarm's"),
    }
)

PROJECT_NAME = Text(what="a name")

INCLUDE = Section({"path": _LONE_OR_TEXTS, "project_directory": _TEXT, "env_file": _LONE_OR_TEXTS}, required=("path",))

FILE = Section(
    {
        "version": SCALAR,
        "name": PROJECT_NAME,
        "include": Expanded(INCLUDE, short_forms.includes),
        "services": MapOf(SERVICE, _NAME),
        "networks": MapOf(NETWORK, _NAME),
        "volumes": MapOf(VOLUME, _NAME),
        "configs": MapOf(CONFIG, _NAME),
        "secrets": MapOf(SECRET, _NAME),
        "models": Refused("models are not possible here"),
    }
)

WITHOUT_EFFECT = (
    "cpu_count",
    "cpu_percent",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "credential_spec",
    "gpus",
    "isolation",
    "storage_opt",
)
"""Keys of services that are accepted, and that nothing on this engine answers to."""
