"""What this installation is and has, as docker's ``info`` and ``version`` tell it."""

from __future__ import annotations

import collections
import os
import platform
import sys
import time

import lab
from lab.container import event_stream
from lab.container.containers import Containers
from lab.linux import procfs
from lab.linux.cgroup.layout import CgroupLayout

API_VERSION = "1.43"
"""The version of docker's API whose documents and words these are."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_RELEASE = "/etc/os-release"


def info_document(containers: Containers) -> dict[str, object]:
    """Return docker's JSON object for an installation; what only a daemon has is left out."""
    counts = collections.Counter(container.status for container in containers.all())
    layout, machine = containers.engine.runtime.layout, os.uname()
    release = _release()
    return {
        "ID": _machine_id(),
        "Containers": counts.total(),
        "ContainersRunning": counts["running"],
        "ContainersPaused": counts["paused"],
        "ContainersStopped": counts.total() - counts["running"] - counts["paused"],
        "Images": len({image.config_digest for image in containers.images.readable()}),
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", _file_system(containers.paths.root)], ["Supports d_type", "true"]],
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "null"], "Authorization": None, "Log": ["json-file"]},
        **_limits(layout),
        "IPv4Forwarding": _flag("/proc/sys/net/ipv4/ip_forward"),
        "Debug": False,
        "OomKillDisable": layout.version("memory") == 1,
        "SystemTime": event_stream.local_instant(time.time_ns()),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs" if layout.hierarchies else "none",
        "CgroupVersion": str(layout.version("memory") or 2),
        "KernelVersion": machine.release,
        "OperatingSystem": release.get("PRETTY_NAME", ""),
        "OSVersion": release.get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": machine.machine,
        "NCPU": os.sysconf("SC_NPROCESSORS_ONLN"),
        "MemTotal": procfs.meminfo()["MemTotal"],
        "DockerRootDir": containers.paths.root,
        "Name": machine.nodename,
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": lab.__version__,
        "Runtimes": {"lab": {"path": sys.executable}},
        "DefaultRuntime": "lab",
        "LiveRestoreEnabled": True,  # there is no daemon whose restart could end containers
        "InitBinary": "docker-init",
        "Isolation": "",
        "IndexServerAddress": "https://index.docker.io/v1/",
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "GenericResources": None,
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": ""},
        "ClientInfo": {"Debug": False, "Context": "default", "Plugins": [], "Warnings": None},
        "SecurityOptions": ["name=seccomp,profile=default"],
        "Warnings": None,
    }


def _limits(layout: CgroupLayout) -> dict[str, object]:
    controllers = {
        "MemoryLimit": "memory",
        "SwapLimit": "memory",
        "CpuCfsPeriod": "cpu",
        "CpuCfsQuota": "cpu",
        "CPUShares": "cpu",
        "CPUSet": "cpuset",
        "PidsLimit": "pids",
    }
    return {name: layout.hierarchy(controller) is not None for name, controller in controllers.items()}


def version_document() -> dict[str, object]:
    """Return docker's JSON object for versions; the engine is the program itself."""
    machine = os.uname()
    common: dict[str, object] = {
        "Version": lab.__version__,
        "ApiVersion": API_VERSION,
        "Os": "linux",
        "Arch": _ARCHITECTURES.get(machine.machine, machine.machine),
        "PythonVersion": platform.python_version(),
        "GitCommit": "",
        "BuildTime": "",
    }
    details = {"Arch": common["Arch"], "KernelVersion": machine.release, "Os": "linux"}
    return {
        "Client": {**common, "DefaultAPIVersion": API_VERSION, "Experimental": True, "Context": "default"},
        "Server": {
            "Platform": {"Name": "lab"},
            "Components": [{"Name": "Engine", "Version": lab.__version__, "Details": details}],
            **common,
            "MinAPIVersion": API_VERSION,
            "KernelVersion": machine.release,
            "Experimental": False,
        },
    }


def _release() -> dict[str, str]:
    try:
        with open(_RELEASE, encoding="utf-8") as file:
            pairs = (line.strip().partition("=") for line in file if "=" in line)
            return {name: value.strip('"') for name, _, value in pairs}
    except FileNotFoundError:
        return {}


def _machine_id() -> str:
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _flag(path: str) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip() != "0"
    except OSError:
        return False


def _file_system(path: str) -> str:
    """Return the type of the file system that holds ``path``, whether it exists yet or not."""
    path = os.path.abspath(path)
    below = [
        entry for entry in procfs.mountinfo() if os.path.commonpath((entry.mount_point, path)) == entry.mount_point
    ]
    return max(below, key=lambda entry: len(entry.mount_point)).fs_type if below else ""
