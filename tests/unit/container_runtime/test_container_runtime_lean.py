"""What the spawner imports: every page of it is there once for each root."""

from __future__ import annotations

import os
import sys

import lab
from lab.linux import command

HEAVY = ("asyncio", "collections", "contextlib", "dataclasses", "enum", "functools", "json", "logging", "pathlib", "re")
HEAVIER = ("shutil", "socket", "subprocess", "tempfile", "threading", "typing")


def test_the_spawner_imports_nothing_but_what_it_always_needs() -> None:
    root = os.path.dirname(os.path.dirname(lab.__file__))
    script = f"import sys; sys.path.insert(0, {root!r}); from lab.container import spawner_process; print(*sys.modules)"
    loaded = command.run((sys.executable, "-I", "-S", "-c", script)).text.split()
    assert "lab.container.spawner" in loaded
    assert [name for name in (*HEAVY, *HEAVIER) if name in loaded] == []
    ours = {name for name in loaded if name.startswith("lab.container.")}
    assert ours.isdisjoint({"lab.container.init_ops", "lab.container.interpreter", "lab.container.init_plan"})
