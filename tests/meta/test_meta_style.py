"""House rules that no linter knows: names, sizes, docstrings, documented exit codes, the change log."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab
from lab import errors

REPOSITORY = Path(__file__).resolve().parents[2]
HOUSE = REPOSITORY / "lab"
SOURCES = sorted(HOUSE.rglob("*.py"))
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}


def test_no_file_is_a_drawer_for_anything() -> None:
    assert [str(path) for path in SOURCES if path.stem in DRAWERS or path.parent.name in DRAWERS] == []


def test_no_class_is_a_manager_or_a_handler() -> None:
    names = [node.name for _, tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [name for name in names if name.endswith(("Manager", "Handler", "Helper", "Utils"))] == []


def test_every_file_can_be_read_at_one_sitting() -> None:
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_every_function_can_be_read_at_a_glance() -> None:
    long = {
        f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    }
    assert {name: lines for name, lines in long.items() if lines > MAX_FUNCTION_LINES} == {}


def test_everything_public_has_a_docstring() -> None:
    missing = [f"{path.relative_to(REPOSITORY)}: {name}" for path, tree in _trees() for name in _undocumented(tree)]
    assert missing == []


def test_no_handler_catches_everything_outside_the_four_places() -> None:
    allowed = {"api/dispatch.py", "cli/main.py", "bench/harness.py", "bench/trial.py", "target/session.py"}
    found = {
        f"{path.relative_to(HOUSE)}:{node.lineno}"
        for path, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and _catches_everything(node) and not _raises_again(node)
    }
    assert {place for place in found if place.partition(":")[0] not in allowed} == set()


def test_every_error_class_is_documented_with_its_exit_code() -> None:
    reference = (REPOSITORY / "docs/reference/exit-codes.md").read_text()
    for name, code in _error_classes():
        assert re.search(rf"`{name}`[^\n]*\| {code} \|", reference), f"{name} with exit code {code}"


def test_the_change_log_has_this_version() -> None:
    assert re.search(rf"^## \[{re.escape(lab.__version__)}\]", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_happens_at_import_but_definitions(source: Path) -> None:
    """Loops and with blocks at module level are work."""
    tree = ast.parse(source.read_text())
    work = [node for node in tree.body if isinstance(node, ast.For | ast.While | ast.With)]
    assert [node.lineno for node in work] == []


def _trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in SOURCES:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def _undocumented(tree: ast.Module) -> Iterator[str]:
    if ast.get_docstring(tree) is None:
        yield "the module"
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield node.name
        methods = [item for item in node.body if isinstance(item, ast.FunctionDef)] if _is_class(node) else []
        for method in methods:
            if not method.name.startswith("_") and ast.get_docstring(method) is None:
                yield f"{node.name}.{method.name}"


def _is_class(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef)


def _catches_everything(node: ast.ExceptHandler) -> bool:
    return node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))


def _raises_again(node: ast.ExceptHandler) -> bool:
    return any(isinstance(inner, ast.Raise) for inner in ast.walk(node))


def _error_classes() -> list[tuple[str, int]]:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.LabError)]
    return [(error.__name__, error.exit_code) for error in found]
