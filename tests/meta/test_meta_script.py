"""lab.sh on machines that it cannot set up: one clear sentence, exit code 3, and nothing touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.linux import command

REPOSITORY = Path(__file__).resolve().parents[2]
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SOMEONE = "65534"


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a checkout that has not been set up and that every user may read."""
    directory = Path("/tmp") / tmp_path_factory.mktemp("lab-test-checkout").name
    directory.mkdir(mode=0o755)
    for name in ("lab.sh", "pyproject.toml", "setup.py", "bin/lab", "lab/cli/command_client.c"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, directory / name)
    yield directory
    shutil.rmtree(directory)


def _untouched(checkout: Path) -> bool:
    return not (checkout / ".venv").exists()


@pytest.mark.root
@pytest.mark.parametrize("verb", ["demo", "test", "doctor"])
def test_without_root_it_says_so_and_what_to_type(checkout: Path, verb: str) -> None:
    as_someone = ["setpriv", "--reuid", SOMEONE, "--clear-groups", f"{checkout}/lab.sh", verb]
    done = command.run(as_someone, env={"PATH": PATH})
    assert done.exit_code == 3
    assert done.error_text.endswith(f"needs root: run 'sudo {checkout}/lab.sh {verb}'")
    assert len(done.error_text.splitlines()) == 1
    assert _untouched(checkout)


@pytest.mark.root
@pytest.mark.needs("mount-namespace")
def test_another_distribution_gets_the_list_of_what_to_install(checkout: Path, tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text("ID=fedora\n")
    script = f"mount --bind {release} $(readlink -f /etc/os-release) && exec {checkout}/lab.sh demo"
    done = command.run(["unshare", "--mount", "sh", "-c", script], env={"PATH": PATH})
    assert done.exit_code == 3, done.error_text
    assert "this is not Debian or Ubuntu" in done.error_text
    assert "\n  qemu-system-x86\n" in done.error_text
    assert "\n  podman\n" in done.error_text
    assert _untouched(checkout)


def test_without_a_python_that_is_new_enough_it_says_which_is_needed(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dirname", "id", "cat", "sha256sum", "cut"):
        os.symlink(str(shutil.which(name, path=PATH)), tools / name)
    done = command.run(["/bin/sh", f"{checkout}/lab.sh", "doctor"], env={"PATH": str(tools)})
    assert done.exit_code == 3
    assert "Python 3.11 or later is needed" in done.error_text
    assert _untouched(checkout)
