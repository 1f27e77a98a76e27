"""The command line on a root of its own, as in ``tests/kernel/containers``."""

from __future__ import annotations

from kernel.containers.conftest import lab, lab_root

__all__ = ["lab", "lab_root"]
