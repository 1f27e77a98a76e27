"""Dimensions of this machine, which label every number, and readings of its state, which describe one run.

Dimensions must be the same when a run is resumed; readings need not. Values are text, as they are on the page.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re

import psutil

from lab.linux import command, procfs, sysfs
from lab.linux.cgroup import layout as cgroup

UNKNOWN = "unknown"


def dimensions(data_directory: str) -> dict[str, str]:
    """Return what kind of machine this is; ``data_directory`` is where images and disks lie."""
    return _processor() | _kernel() | _memory_settings() | _file_system(data_directory)


def readings(prefix: str = "") -> dict[str, str]:
    """Return the state of the host now: load, free memory, pressure; names begin with ``prefix``."""
    load = procfs.load_average()
    found = {
        "load_1m": f"{load.one_minute:.2f}",
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
        "smt": sysfs.smt_active() or UNKNOWN,
        "frequency_governor": sysfs.scaling_governor() or "not set by this kernel",
        "clock_source": sysfs.clock_source() or UNKNOWN,
    }


def _kernel() -> dict[str, str]:
    layout = cgroup.detect()
    mitigations = sysfs.vulnerabilities()
    text = "\n".join(f"{name}: {value}" for name, value in mitigations.items())
    vulnerable = [name for name, value in mitigations.items() if value.startswith("Vulnerable")]
    return {
        "kernel": platform.release(),
        "kernel_build": platform.version(),
        "os": _os_name(),
        "cgroup_layout": str(layout.kind),
        "mitigations": f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}" if text else UNKNOWN,
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
