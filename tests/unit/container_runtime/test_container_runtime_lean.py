"""What the spawner imports: every page of it is there once for each root."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import lab
from lab.linux import command

HEAVY = ("asyncio", "collections", "contextlib", "dataclasses", "enum", "functools", "json", "logging", "pathlib", "re")
HEAVIER = ("shutil", "socket", "subprocess", "tempfile", "termios", "threading", "typing")


def test_the_spawner_imports_nothing_but_what_it_always_needs() -> None:
    root = os.path.dirname(os.path.dirname(lab.__file__))
    script = f"import sys; sys.path.insert(0, {root!r}); from lab.container import spawner_process; print(*sys.modules)"
    loaded = command.run((sys.executable, "-I", "-S", "-c", script)).text.split()
    assert "lab.container.spawner" in loaded
    assert [name for name in (*HEAVY, *HEAVIER) if name in loaded] == []
    ours = {name for name in loaded if name.startswith("lab.container.")}
    unneeded = ("health", "init_ops", "init_plan", "interpreter", "terminal_keeper", "user_namespace")
    assert ours.isdisjoint(f"lab.container.{name}" for name in unneeded)


def test_a_spawner_that_had_to_compile_what_it_imports_begins_anew_and_the_next_one_need_not(tmp_path: Path) -> None:
    shutil.copytree(
        os.path.dirname(lab.__file__),
        tmp_path / "lab",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from lab.container import spawner_process;"
        " spawner_process._begin_anew_if_compiled(); print(sys.argv[1:], sys.flags.optimize, sys.flags.isolated)"
    )

    def begun() -> str:
        return command.run((sys.executable, "-I", "-S", "-OO", "-c", script), env={}).text.strip()

    assert (begun(), begun()) == ("['again'] 2 1", "[] 2 1")
    (tmp_path / "lab" / "container" / "wire.py").touch()  # as by an update
    assert (begun(), begun()) == ("['again'] 2 1", "[] 2 1")
