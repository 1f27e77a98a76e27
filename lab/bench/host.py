"""Dimensions of this machine, which label every number, and readings of its state, which describe one run.

Dimensions must be the same when a run is resumed; readings need not. Values are text, as they are on the page.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping

import psutil

from lab.linux import command, kernel_config, procfs, sysfs
from lab.linux.cgroup import layout as cgroup

UNKNOWN = "unknown"

_RELEVANT_OPTIONS = re.compile(
    r"HZ|NO_HZ\w*|PREEMPT\w*|CGROUPS?|CGROUP_\w+|MEMCG\w*|CPUSETS\w*|CFS_BANDWIDTH|OVERLAY_FS\w*|KSM"
    r"|TRANSPARENT_HUGEPAGE\w*|NUMA\w*|PSI\w*|CPU_MITIGATIONS|MITIGATION_\w+"
)


def dimensions(directories: Mapping[str, str]) -> dict[str, str]:
    """Return what kind of machine this is, down to the file systems of ``directories``.

    Their keys begin the names of their dimensions: "containers_" gives "containers_file_system".
    """
    found = _processor() | _virtualisation() | _kernel() | _memory_settings()
    for prefix, directory in directories.items():
        found |= {f"{prefix}{name}": value for name, value in _file_system(directory).items()}
    return found


def readings(prefix: str = "") -> dict[str, str]:
    """Return the state of the host now: load, free memory, pressure; names begin with ``prefix``."""
    load = procfs.load_average()
    found = {
        "load_1m": f"{load.one_minute:.2f}",
        "load_5m": f"{load.five_minutes:.2f}",
        "load_15m": f"{load.fifteen_minutes:.2f}",
        "runnable_tasks": str(load.runnable),
        "memory_available_bytes": str(procfs.meminfo()["MemAvailable"]),
        "steal_since_boot_ns": str(procfs.cpu_times().steal_ns),
    }
    return {prefix + name: value for name, value in found.items()}


def commit() -> str:
    """Return the commit of the lab's own checkout, with "+changes" when it has some, or "unknown"."""
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        head = command.run(["git", "-C", here, "rev-parse", "HEAD"], timeout_s=10)
        state = command.run(["git", "-C", here, "status", "--porcelain", "--untracked-files=no"], timeout_s=10)
    except (OSError, TimeoutError):
        return UNKNOWN
    if head.exit_code != 0:
        return UNKNOWN
    return head.text + ("+changes" if state.text else "")


def _processor() -> dict[str, str]:
    info = procfs.cpuinfo()
    flags = info.get("flags", "").split()
    vendor = " ".join(filter(None, (sysfs.dmi("sys_vendor"), sysfs.dmi("product_name"))))
    return {
        "architecture": platform.machine(),
        "cpu_model": info.get("model name", UNKNOWN),
        "cpus": str(os.cpu_count() or 1),
        "microcode": info.get("microcode", UNKNOWN),
        "virtualised": "yes" if "hypervisor" in flags else "no",
        "machine": vendor or UNKNOWN,
        "hardware": "emulated" if procfs.processor_is_emulated(info) else "real",
        "smt": sysfs.smt_active() or UNKNOWN,
        "frequency_governor": sysfs.scaling_governor() or "not set by this kernel",
        "clock_source": sysfs.clock_source() or UNKNOWN,
    }


def _virtualisation() -> dict[str, str]:
    return {"virtualised_by": "; ".join(_virtualisers()), "kvm_flavour": ", ".join(sysfs.kvm_flavours()) or "none"}


def _virtualisers() -> Iterator[str]:
    """Give what each source says; they differ where a container is in a guest, and none of them knows all."""
    for kind in ("vm", "container"):
        said = _said(("systemd-detect-virt", f"--{kind}"))
        yield f"{kind} by systemd-detect-virt: {said or 'not installed'}"
    yield f"hypervisor by cpuid: {_cpuid_vendor(_said(('lscpu', '--json')))}"
    yield f"vendor by DMI: {sysfs.dmi('sys_vendor') or 'not told'}"


def _said(argv: tuple[str, ...]) -> str:
    try:
        return command.run(argv, timeout_s=10).text
    except (OSError, TimeoutError):
        return ""


def _cpuid_vendor(text: str) -> str:
    """Return the hypervisor's name in lscpu's JSON, whose fields may be nested; "none" when there is none."""
    entries = json.loads(text)["lscpu"] if text else []
    while entries:
        entry, *entries = entries
        entries.extend(entry.get("children", ()))
        if entry["field"].rstrip(":") == "Hypervisor vendor":
            return str(entry["data"])
    return "none" if text else "not told"


def _configuration(options: Mapping[str, str] | None) -> str:
    if options is None:
        return "not available"
    return " ".join(f"{name}={value}" for name, value in options.items() if _RELEVANT_OPTIONS.fullmatch(name))


def _kernel() -> dict[str, str]:
    layout = cgroup.detect()
    mitigations = sysfs.vulnerabilities()
    vulnerable = [name for name, value in mitigations.items() if value.startswith("Vulnerable")]
    return {
        "kernel": platform.release(),
        "kernel_build": platform.version(),
        "os": _os_name(),
        "cgroup_layout": str(layout.kind),
        "kernel_config": _configuration(kernel_config.read()),
        "mitigations": " | ".join(f"{name}: {value}" for name, value in mitigations.items()) or UNKNOWN,
        "vulnerable_to": ", ".join(vulnerable) or "none known",
        "rcu_expedited": sysfs.rcu_expedited() or UNKNOWN,
        "python": platform.python_version(),
    }


def _memory_settings() -> dict[str, str]:
    return {
        "memory_total_bytes": str(psutil.virtual_memory().total),
        "swap_total_bytes": str(psutil.swap_memory().total),
        "transparent_hugepages": sysfs.transparent_hugepages() or UNKNOWN,
        "ksm_run": sysfs.ksm_run() or UNKNOWN,
    }


def _file_system(directory: str) -> dict[str, str]:
    path = os.path.realpath(directory)
    mounts = [mount for mount in procfs.mountinfo() if _contains(mount.mount_point, path)]
    if not mounts:
        return {"file_system": UNKNOWN}
    # the longest mount point holds the path; of several on one point the last lies on top
    mount = max(enumerate(mounts), key=lambda pair: (len(pair[1].mount_point), pair[0]))[1]
    return {"file_system": mount.fs_type, "mount_options": f"{mount.options}; {mount.super_options}"}


def _contains(mount_point: str, path: str) -> bool:
    return mount_point == "/" or path == mount_point or path.startswith(mount_point + "/")


def _os_name() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            match = re.search(r'^PRETTY_NAME="?([^"\n]+)', file.read(), re.MULTILINE)
    except OSError:
        return UNKNOWN
    return match[1] if match else UNKNOWN
