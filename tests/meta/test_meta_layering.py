"""The house's storeys and doors hold, and the tool that holds them would notice if they did not."""

from __future__ import annotations

import ast
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.linux import command

REPOSITORY = Path(__file__).resolve().parents[2]
HOUSE = REPOSITORY / "lab"

# door -> the only files, relative to lab/, that may use it
PRINTERS = ("cli/output.py",)
ENVIRONMENT_READERS = ("paths.py", "cli/")
EXITERS = ("cli/",)

PLANTED = {
    "storeys": ("linux/planted.py", "import lab.bench.model\n"),
    "backends": ("bench/planted.py", "import lab.target.backends.process\n"),
    "door-ctypes": ("target/planted.py", "import ctypes\n"),
    "door-subprocess": ("vm/planted.py", "import subprocess\n"),
    "door-libvirt": ("target/planted.py", "import libvirt\n"),
    "door-urllib3": ("bench/planted.py", "import urllib3\n"),
    "door-h11": ("bench/planted.py", "import h11\n"),
    "door-wsproto": ("bench/planted.py", "import wsproto\n"),
    "door-pyroute2": ("linux/planted.py", "from pyroute2 import IPRoute\n"),
    "door-yaml": ("container/planted.py", "import yaml\n"),
    "door-pandas": ("bench/planted.py", "import pandas\n"),
    "door-matplotlib": ("report/planted.py", "import matplotlib.pyplot\n"),
    "door-argparse": ("bench/planted.py", "import argparse\n"),
    "hot-path": ("container/init.py", "\nimport logging\n"),
}


@pytest.fixture
def copy_of_the_house(tmp_path: Path) -> Path:
    shutil.copytree(HOUSE, tmp_path / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def _lint(directory: Path, *arguments: str) -> command.Completed:
    program = Path(sys.executable).with_name("lint-imports")
    return command.run([str(program), "--no-cache", "--no-logo", *arguments], cwd=str(directory))


def _contracts() -> list[str]:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        return [contract["id"] for contract in tomllib.load(file)["tool"]["importlinter"]["contracts"]]


def test_imports_only_go_down_and_foreign_things_come_through_their_doors() -> None:
    linted = _lint(REPOSITORY)
    assert linted.exit_code == 0, linted.text


@pytest.mark.parametrize("contract", _contracts())
def test_a_planted_violation_breaks_its_contract(copy_of_the_house: Path, contract: str) -> None:
    file, code = PLANTED[contract]
    with (copy_of_the_house / "lab" / file).open("a") as planted:
        planted.write(code)
    linted = _lint(copy_of_the_house, "--contract", contract)
    assert linted.exit_code == 1, linted.text
    assert "BROKEN" in linted.text


def _files() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(HOUSE.rglob("*.py")):
        yield str(path.relative_to(HOUSE)), ast.parse(path.read_text(encoding="utf-8"))


def _uses(tree: ast.Module, owner: str, names: tuple[str, ...]) -> list[int]:
    """Return the lines that use ``owner.name``, by attribute or by import."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = node.value.id == owner and node.attr in names
        elif isinstance(node, ast.ImportFrom):
            found = node.module == owner and any(alias.name in names for alias in node.names)
        else:
            found = False
        if found:
            lines.append(getattr(node, "lineno"))  # noqa: B009 - ast.AST has no lineno, its statements do
    return lines


def _calls(tree: ast.Module, name: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


def test_only_the_output_file_prints() -> None:
    found = [f"{file}:{line}" for file, tree in _files() for line in _calls(tree, "print") if file not in PRINTERS]
    assert found == []


def test_only_paths_and_cli_read_the_environment() -> None:
    names = ("environ", "environb", "getenv", "getenvb")
    assert _outside(ENVIRONMENT_READERS, "os", names) == []


def test_only_cli_exits() -> None:
    assert _outside(EXITERS, "sys", ("exit",)) == []


def test_no_command_goes_through_a_shell() -> None:
    assert _outside((), "os", ("system", "popen")) == []


def _outside(doors: tuple[str, ...], owner: str, names: tuple[str, ...]) -> list[str]:
    return [
        f"{file}:{line}"
        for file, tree in _files()
        for line in _uses(tree, owner, names)
        if not file.startswith(doors or ("\0",))
    ]
