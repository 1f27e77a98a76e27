"""The fairness card: what an arm has in common with the baseline, each question yes, or no with the reason; pure.

One "no" makes a verdict indicative: the reader is told what else differed besides the isolation.
"""

from __future__ import annotations

from collections.abc import Mapping

Facts = Mapping[str, str]
YES = "yes"


def card(facts: Facts, baseline: Facts) -> dict[str, str]:
    """Return question -> "yes", "yes: …" or "no: reason" for an arm with ``facts`` against the baseline's."""
    return {
        "same kernel": _kernel(facts),
        "same image": "yes: one manifest digest, checked by every arm",
        "same binary": "yes: it comes out of that image",
        "same limits": _limits(facts),
        "same file system": _file_system(facts),
        "same cache state": _cache(facts),
        "same hardware acceleration": _acceleration(facts, baseline),
    }


def _is_guest(facts: Facts) -> bool:
    return facts.get("isolation") == "vm"


def _kernel(facts: Facts) -> str:
    if _is_guest(facts):
        return f"no: the guest runs a kernel of its own, {facts.get('guest_kernel', 'not named')}"
    if "user space" in facts.get("isolation", ""):
        return "no: system calls are answered by a kernel in user space"
    return YES


def _limits(facts: Facts) -> str:
    if facts.get("limits", "enforced") != "enforced":
        return f"no: {facts['limits']}"
    if _is_guest(facts):
        return "yes: as virtual processors and memory of the guest; the VMM's own use comes on top"
    return "yes: by cgroup"


def _file_system(facts: Facts) -> str:
    if _is_guest(facts):
        return f"no: {facts.get('file_system', 'ext4 on a virtio disk')}, whose files lie on the host's file system"
    if "user space" in facts.get("isolation", ""):
        return "no: files are served by a process outside the sandbox"
    return "yes: overlay on the host's file system, volumes directly on it"


def _cache(facts: Facts) -> str:
    if _is_guest(facts):
        return "no: warm on the host, but each guest boots with a page cache of its own that is cold"
    return "yes: warm, by warm-up blocks that are not counted"


def _acceleration(facts: Facts, baseline: Facts) -> str:
    accelerator, base = facts.get("accelerator", "none"), baseline.get("accelerator", "none")
    if accelerator == "tcg":
        return "no: software emulation (TCG), every guest instruction is translated"
    if facts.get("kvm_flavour") and facts.get("nested") == "yes":
        return f"no: nested virtualisation, KVM flavour {facts['kvm_flavour']}"
    if accelerator == base or accelerator == "kvm":
        return "yes: code runs on the processor itself"
    return f"no: {accelerator}"
