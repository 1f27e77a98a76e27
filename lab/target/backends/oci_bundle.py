"""A target as an OCI bundle's ``config.json``: our engine's defaults, in the form that foreign runtimes read; pure."""

from __future__ import annotations

import json
from typing import Any

from lab.container import defaults, resources, seccomp_profile
from lab.container.defaults import ContainerConfig
from lab.container.seccomp_profile import Host, Rule
from lab.container.spec import codec
from lab.container.spec.runtime import Mount, NamespaceType
from lab.linux import seccomp
from lab.target.spec import TargetSpec

_OPERATORS = {
    seccomp.SCMP_CMP_NE: "SCMP_CMP_NE",
    seccomp.SCMP_CMP_LT: "SCMP_CMP_LT",
    seccomp.SCMP_CMP_LE: "SCMP_CMP_LE",
    seccomp.SCMP_CMP_EQ: "SCMP_CMP_EQ",
    seccomp.SCMP_CMP_GE: "SCMP_CMP_GE",
    seccomp.SCMP_CMP_GT: "SCMP_CMP_GT",
    seccomp.SCMP_CMP_MASKED_EQ: "SCMP_CMP_MASKED_EQ",
}
_ERRNO_BITS = 0xFFFF
SCRATCH_PATH = "/data"


def document(spec: TargetSpec, *, rootfs: str, scratch: str, netns: str) -> dict[str, Any]:  # Any: JSON
    """Return the ``config.json`` of a target.

    ``scratch`` is the host directory for /data and ``netns`` the namespace to join; "" for neither.
    """
    limits = spec.limits
    config = ContainerConfig(
        id=spec.name,
        args=spec.command.argv,
        env=tuple(f"{name}={value}" for name, value in spec.command.env),
        cwd=spec.command.cwd,
        hostname=spec.name,
        mounts=_volume_mounts(spec, scratch),
        resources=resources.limits(vcpus=limits.vcpus, memory_bytes=limits.memory_bytes, pids=limits.pids),
        cgroup_parent=spec.cgroup_parent,
    )
    found: dict[str, Any] = codec.encode(defaults.spec(config, rootfs, ()))
    found["process"] |= {"cwd": config.cwd, "user": {"uid": 0, "gid": 0}}  # runc and crun want even the defaults said
    found["linux"]["cgroupsPath"] = f"/{spec.cgroup_parent}/{spec.name}"  # absolute: from the hierarchies' roots
    found["linux"]["seccomp"] = seccomp_section(seccomp_profile.default_profile(), defaults.CAPABILITIES, Host.here())
    for rule in found["linux"]["resources"]["devices"]:
        rule.setdefault("access", "rwm")
    for namespace in found["linux"]["namespaces"]:
        if netns and namespace["type"] == NamespaceType.NETWORK:
            namespace["path"] = netns
    return found


def _volume_mounts(spec: TargetSpec, scratch: str) -> tuple[Mount, ...]:
    volumes = [(volume.source, volume.path, volume.read_only) for volume in spec.volumes]
    volumes += [(scratch, SCRATCH_PATH, False)] if scratch else []
    return tuple(
        Mount(destination=path, type="bind", source=source, options=("rbind", "ro" if read_only else "rw"))
        for source, path, read_only in volumes
    )


def seccomp_section(profile: str, capabilities: tuple[str, ...], host: Host) -> dict[str, Any]:  # Any: JSON
    """Return a profile's text as the runtime specification wants it: conditions resolved for this container and host.

    Source: opencontainers/runtime-spec, config-linux.md "Seccomp".
    """
    parsed = json.loads(profile)
    grouped: dict[tuple[int, tuple[tuple[int, int, int, int], ...]], list[str]] = {}
    for rule in seccomp_profile.select(parsed, frozenset(capabilities), host):
        grouped.setdefault((rule.action, rule.comparisons), []).append(rule.name)
    rules = (Rule(",".join(names), action, comparisons) for (action, comparisons), names in grouped.items())
    architectures = next(
        [entry["architecture"], *entry["subArchitectures"]]
        for entry in parsed["archMap"]
        if entry["architecture"].endswith(host.machine.upper())
    )
    return {
        "defaultAction": parsed["defaultAction"],
        "defaultErrnoRet": parsed.get("defaultErrnoRet", 1),
        "architectures": architectures,
        "syscalls": [_syscall_entry(rule) for rule in rules],
    }


def _syscall_entry(rule: Rule) -> dict[str, Any]:  # Any: JSON
    allowed = rule.action == seccomp.SCMP_ACT_ALLOW
    entry: dict[str, Any] = {
        "names": rule.name.split(","),
        "action": "SCMP_ACT_ALLOW" if allowed else "SCMP_ACT_ERRNO",
    }
    if not allowed:
        entry["errnoRet"] = rule.action & _ERRNO_BITS
    if rule.comparisons:
        entry["args"] = [
            {"index": index, "op": _OPERATORS[operator], "value": value, "valueTwo": second}
            for index, operator, value, second in rule.comparisons
        ]
    return entry
