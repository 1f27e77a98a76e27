"""The documents say what is there: every room, every dependency, links that lead somewhere, commands that exist."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HOUSE = REPOSITORY / "lab"
ARCHITECTURE = (REPOSITORY / "docs/architecture.md").read_text()
DOCUMENTS = [
    *(REPOSITORY / name for name in ("README.md", "CHANGELOG.md")),
    *(path for room in ("docs", "examples") for path in sorted((REPOSITORY / room).rglob("*.md"))),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_inside_the_repository_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    inner = [target for target in targets if "://" not in target]
    assert [target for target in inner if not (document.parent / target).exists()] == []


def test_every_module_is_in_the_list_of_rooms() -> None:
    missing = [room for room in _rooms() if f"`{room}`" not in ARCHITECTURE]
    assert missing == []


def test_the_list_of_rooms_names_no_module_that_is_gone() -> None:
    table = ARCHITECTURE.partition("<!-- rooms -->")[2].partition("<!-- /rooms -->")[0]
    named = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert sorted(set(named) - set(_rooms())) == []


def test_every_dependency_has_its_reason() -> None:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    listed = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    names = [re.split(r"[<>=\[]", item)[0] for item in listed]
    assert [name for name in names if f"`{name}`" not in ARCHITECTURE] == []


def test_the_two_commands_of_the_readme_exist_in_the_script() -> None:
    readme, script = (REPOSITORY / "README.md").read_text(), (REPOSITORY / "lab.sh").read_text()
    for verb in ("demo", "test"):
        assert f"sudo ./lab.sh {verb}" in readme
        assert re.search(rf"^{verb}\)$", script, re.MULTILINE)


def test_every_environment_variable_that_is_read_is_documented() -> None:
    reference = (REPOSITORY / "docs/reference/environment.md").read_text()
    sources = [*HOUSE.rglob("*.py"), *(REPOSITORY / "tests").glob("*.py"), REPOSITORY / "lab.sh"]
    names = {name for path in sources for name in re.findall(r"\b(?:LAB|XDG)_[A-Z_]+\b", path.read_text())}
    assert sorted(name for name in names if f"`{name}`" not in reference) == []


def test_every_metric_of_a_workload_is_explained() -> None:
    from lab.bench.workloads.catalogue import WORKLOADS

    reference = (REPOSITORY / "docs/reference/metrics.md").read_text()
    names = {metric.name for workload in WORKLOADS.values() for metric in workload.metrics}
    assert sorted(name for name in names if f"`{name}`" not in reference) == []


def test_every_key_of_a_suite_file_is_explained() -> None:
    from lab.bench.suite_file import find as find_suite
    from lab.bench.suite_file import shipped

    reference = (REPOSITORY / "docs/reference/suite-file.md").read_text()
    for name in shipped():
        with open(find_suite(name), "rb") as file:
            suite = tomllib.load(file)
        keys = {*suite, *suite["blocks"], *suite["limits"], *(key for use in suite["workload"] for key in use)}
        assert sorted(key for key in keys if key not in reference) == []


def test_every_key_of_a_compose_file_is_explained() -> None:
    from lab.compose import schema

    reference = (REPOSITORY / "docs/reference/compose-file.md").read_text()
    keys = set(_keys_of(schema.FILE))
    assert {"services", "ports", "published", "subnet"} < keys
    assert sorted(key for key in keys if f"`{key}`" not in reference) == []


def _keys_of(shape: object) -> Iterator[str]:
    """Give the keys of all sections in a shape, which hold their parts as fields."""
    for field in fields(shape) if is_dataclass(shape) else ():
        part = getattr(shape, field.name)
        yield from part if field.name == "keys" else ()
        for inner in part.values() if isinstance(part, Mapping) else (part,):
            yield from _keys_of(inner)


def test_every_check_of_the_doctor_can_be_asked_for_by_its_name() -> None:
    from lab.target import doctor

    names = [check.name for check in doctor.all_checks()]
    assert len(names) == len(set(names))
    assert all(doctor.find_check(name).name == name for name in names)


def _rooms() -> list[str]:
    files = [path.relative_to(HOUSE) for path in HOUSE.rglob("*.py") if path.name != "__init__.py"]
    return sorted(str(path) for path in files)
