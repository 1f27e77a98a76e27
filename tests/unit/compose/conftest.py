"""Projects from texts of files in a directory of the test's own."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from lab.compose.load import load
from lab.compose.model import Project

Load = Callable[..., Project]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return what loads a project called "app" from a text, or from texts by file name; flags as for ``load``."""
    directory = tmp_path / "app"
    directory.mkdir()
    monkeypatch.chdir(directory)

    def loaded(
        files: str | Mapping[str, str],
        paths: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        **flags: object,
    ) -> Project:
        for name, text in ({"compose.yaml": files} if isinstance(files, str) else files).items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return load(paths, environment=environment or {}, **flags)  # type: ignore[arg-type]  # as the test says

    return loaded
