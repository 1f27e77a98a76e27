"""The testbed, made ready once for all tests: the first time on a machine takes minutes, later ones seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from lab.linux.command import Completed
from lab.linux.command import run as run_program
from lab.paths import Paths
from lab.testbed.bed import Mode, Testbed

COMMAND_S = 1200.0


class Lab:
    """`lab testbed` of this checkout."""

    def __call__(self, *argv: str, timeout_s: float = COMMAND_S, stdin: bytes = b"") -> Completed:
        return run_program((sys.executable, "-m", "lab", "testbed", *argv), timeout_s=timeout_s, stdin=stdin)


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()


@pytest.fixture(scope="session")
def testbed(paths: Paths) -> Iterator[Testbed]:
    """Let the machine run for all tests that use it, and end it after them."""
    made = Testbed(paths, lambda line: sys.stderr.write(f"{line}\n"))
    if made.status().mode is not Mode.DOWN:
        pytest.fail("the testbed is up already: lab testbed down", pytrace=False)
    made.up(Mode.RUNNING)
    yield made
    made.down()
