"""The tables of docker's commands once more: docker's own client, on docker and on `lab serve`.

What the lab's own command line says otherwise (the differences in the tables) may be the same here, since the words are
then docker's client's. What differs on `lab serve` stands here, with its reason.
"""

from __future__ import annotations

import pytest
from clients import (
    test_clients_commands,
    test_clients_files,
    test_clients_image_names,
    test_clients_life,
    test_clients_limits,
    test_clients_volumes,
)
from clients.transcript import Case, Difference, Engine, check

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]

TABLES = {
    "commands": test_clients_commands.RUN,
    "life": test_clients_life.LIFE,
    "files": test_clients_files.FILES,
    "images": test_clients_image_names.IMAGES,
    "limits": test_clients_limits.LIMITS,
    "volumes": test_clients_volumes.CASES,
}
CASES = {f"{table} {name}": case for table, cases in TABLES.items() for name, case in cases.items()}
DIFFERS = {
    "files cp-differs": Difference(
        docker="[exit 0]\n[exit 1]\n[exit 1]\n[exit 0]\n",
        lab="[exit 0]\n1\n[exit 0]\n[exit 1]\n[exit 1]\n",
        reason="docker writes below what is mounted in memory, where nobody sees it, and below /proc",
    ),
    "limits wrong-limits": Difference(
        docker="disk\n[exit 127]\n",
        lab="disk\n[exit 125]\n",
        reason="docker takes a disk that is not there for a program that is not there",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_dockers_client_does_the_same_on_both(name: str, api_engines: tuple[Engine, Engine]) -> None:
    case = CASES[name]
    differs = (DIFFERS[name],) if name in DIFFERS else ()
    check(Case(script=case.script, says=case.says, differs=differs), api_engines)
