"""Interface files below /sys, typed; only what psutil lacks.

Source: Documentation/ABI/ in the kernel tree, one entry per file named here.
"""

from __future__ import annotations

import os

_SYS = "/sys"


def read_text(name: str) -> str | None:
    """Return the text of a file below /sys without its last newline; None where the kernel does not have it."""
    try:
        with open(os.path.join(_SYS, name), encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:  # absent, not readable, or readable but not supported by the device: all mean "cannot tell"
        return None


def chosen(name: str) -> str | None:
    """Return the bracketed word of a file that lists choices: "always [madvise] never" -> "madvise"."""
    return parse_chosen(read_text(name))


def parse_chosen(text: str | None) -> str | None:
    """Return the bracketed word of ``text``, all of it when there are no brackets, None for None."""
    if text is None or "[" not in text:
        return text
    return text.partition("[")[2].partition("]")[0]


def transparent_hugepages() -> str | None:
    """Return "always", "madvise" or "never"."""
    return chosen("kernel/mm/transparent_hugepage/enabled")


def ksm_run() -> str | None:
    """Return "0" (off), "1" (merging) or "2" (off, and all unmerged)."""
    return read_text("kernel/mm/ksm/run")


def free_huge_pages() -> int:
    """Return how many pages of 2 MiB the pool has free; 0 on a kernel without them."""
    return int(read_text("kernel/mm/hugepages/hugepages-2048kB/free_hugepages") or 0)


def clock_source() -> str | None:
    """Return the clock source of the kernel's time: "tsc", "kvm-clock"."""
    return read_text("devices/system/clocksource/clocksource0/current_clocksource")


def scaling_governor() -> str | None:
    """Return the frequency governor of the first processor; None where the frequency is not ours to set."""
    return read_text("devices/system/cpu/cpu0/cpufreq/scaling_governor")


def rcu_expedited() -> str | None:
    """Return "1" when grace periods are hurried, which makes namespaces and cgroups cheaper to move."""
    return read_text("kernel/rcu_expedited")


def smt_active() -> str | None:
    """Return "1" when processors share cores."""
    return read_text("devices/system/cpu/smt/active")


def dmi(field: str) -> str | None:
    """Return a field of the firmware's description: "sys_vendor", "product_name"."""
    return read_text(f"devices/virtual/dmi/id/{field}")


def vulnerabilities() -> dict[str, str]:
    """Return the kernel's word on each processor vulnerability: "spectre_v2" -> "Mitigation: Retpolines"."""
    directory = os.path.join(_SYS, "devices/system/cpu/vulnerabilities")
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return {}
    return {name: read_text(os.path.join(directory, name)) or "" for name in names}


def kvm_flavours() -> tuple[str, ...]:
    """Return whose KVM modules are loaded: "intel", "amd", "pvm"."""
    directory = os.path.join(_SYS, "module")
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return tuple(sorted(name.removeprefix("kvm_") for name in names if name.startswith("kvm_")))
