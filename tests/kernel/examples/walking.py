"""Walking through an example's page with the lab, on a root that has what the example builds on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ..containers.conftest import Lab
from .walkthrough import EXAMPLES, PAGE, bases_of, walk


def does_what_its_page_says(
    name: str, lab: Lab, base_archive: Callable[[str], str], directory: Path, page: str = PAGE
) -> None:
    """Walk through the page, and assert that it is true and leaves nothing."""
    images = lab.ok("images", "--format", "{{.Repository}}").split()
    for base in bases_of(name):
        if base not in images:
            lab.ok("load", "-q", "-i", base_archive(base))
    wrong = walk(name, engine(lab), directory, page=page)
    assert not wrong, "\n\n".join(wrong)
    nothing_is_left(lab)
    assert _files(directory / name) == _files(EXAMPLES / name)


def engine(lab: Lab) -> tuple[str, ...]:
    """Return the words that pages call ``lab``."""
    return (sys.executable, "-m", "lab", "--root", lab.paths.root)


def nothing_is_left(lab: Lab) -> None:
    """Assert that no container, volume or network is left."""
    for kind in ("ps -aq", "volume ls -q", "network ls -q --filter type=custom"):
        assert lab.ok(*kind.split()) == ""


def _files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))
