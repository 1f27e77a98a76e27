"""The rules of tests/conftest.py hold: needs skip or fail, and what is left behind is noticed."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from lab.linux import command

TESTS = Path(__file__).resolve().parents[1]
MARKERS = "[pytest]\nmarkers =\n    root: x\n    needs(check): x\npythonpath = .\n"
NEEDS_FIO = 'import pytest\n\n@pytest.mark.needs("fio")\ndef test_it():\n    pass\n'
# a pid that ends by itself soon, so that this test cannot leave it behind for long
LEAVES_A_PROCESS = 'from lab.linux import command\n\ndef test_it():\n    command.spawn(["/bin/sleep", "30"])\n'
LEAVES_A_MOUNT = """
import pytest
from lab.linux import mount

@pytest.mark.root
def test_it(tmp_path):
    mount.mount("tmpfs", "{target}", "tmpfs", 0, "")
"""


def _run(directory: Path, code: str, **environment: str) -> command.Completed:
    shutil.copy(TESTS / "conftest.py", directory)
    patient = (TESTS / "leftovers.py").read_text()
    (directory / "leftovers.py").write_text(patient.replace("_GRACE_S = 10.0", "_GRACE_S = 0.5"))
    test = directory / "kernel" / "test_planted.py"
    test.parent.mkdir()
    test.write_text(code)
    (directory / "pytest.ini").write_text(MARKERS)
    env = {**os.environ, "LAB_REQUIRE": "", "LAB_ROOT": str(directory), **environment}
    argv = [sys.executable, "-m", "pytest", "-rsfE", "-p", "no:cacheprovider", str(directory)]
    return command.run(argv, cwd=str(directory), env=env)


def test_a_test_whose_need_is_missing_is_skipped_with_reason_and_remedy(tmp_path: Path) -> None:
    done = _run(tmp_path, NEEDS_FIO, PATH="/nowhere")
    assert done.exit_code == 0, done.text
    assert "fio: no such program (apt-get install --no-install-recommends fio)" in done.text


def test_a_missing_need_that_is_required_is_a_failure(tmp_path: Path) -> None:
    done = _run(tmp_path, NEEDS_FIO, PATH="/nowhere", LAB_REQUIRE="runc,fio")
    assert done.exit_code == 1
    assert "required, but not to be had: fio: no such program" in done.text


def test_a_requirement_that_no_check_knows_is_an_error(tmp_path: Path) -> None:
    done = _run(tmp_path, NEEDS_FIO, LAB_REQUIRE="foi")
    assert done.exit_code == 4
    assert "unknown check 'foi'" in done.error_text + done.text


def test_a_process_that_outlives_the_run_is_a_failure(tmp_path: Path) -> None:
    done = _run(tmp_path, LEAVES_A_PROCESS)
    assert "left behind by this test run:" in done.text
    found = re.search(r"process (\d+) /bin/sleep 30", done.text)
    assert found, done.text
    os.kill(int(found[1]), 9)


@pytest.mark.root
def test_a_mount_that_outlives_a_test_is_a_failure(tmp_path: Path) -> None:
    target = tmp_path / "mounted"
    target.mkdir()
    done = _run(tmp_path, LEAVES_A_MOUNT.format(target=target))
    command.run(["umount", str(target)])
    assert f"mount {target}" in done.text
    assert "left behind by this test:" in done.text
