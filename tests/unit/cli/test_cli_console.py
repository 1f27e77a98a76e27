"""The console script as it is installed with and without a compiler, and its first moments in Python."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import console_script
import pytest

from lab import __version__

ELF = b"\x7fELF"
TIMEOUT_S = 30
SLOW_IMPORT = """
import sys, time
class Slow:
    def find_spec(self, name, path, target=None):
        if name == "lab.cli.main":
            print("importing", flush=True)
            time.sleep(30)
sys.meta_path.insert(0, Slow())
from lab.cli.console import entry
entry()
"""


def _version(program: Path) -> str:
    done = subprocess.run((program, "--version"), check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a compiler")
def test_with_a_compiler_the_client_is_installed_before_the_scripts_also_a_second_time(tmp_path: Path) -> None:
    for _ in range(2):
        lab = console_script.install(tmp_path)
        assert lab.read_bytes().startswith(ELF)
        assert sorted(os.listdir(tmp_path)) == ["lab", "lab-command-server", "lab-python"]
        for name in ("lab-python", "lab-command-server"):
            assert (tmp_path / name).read_text().startswith(f"#!{sys.executable}\n")
        assert all(os.access(path, os.X_OK) for path in tmp_path.iterdir())
    assert _version(lab) == f"lab {__version__}"


@pytest.mark.parametrize("compiler", ["/none/cc", "false"])
def test_without_a_compiler_the_script_is_installed_alone(tmp_path: Path, compiler: str) -> None:
    lab = console_script.install(tmp_path, CC=compiler)
    assert os.listdir(tmp_path) == ["lab"]
    assert _version(lab) == f"lab {__version__}"
    environ = {**os.environ, "LAB_ROOT": str(tmp_path)}
    subprocess.run((lab, "image", "ls"), check=True, capture_output=True, env=environ, timeout=TIMEOUT_S)
    assert not list(tmp_path.glob("run/commands*"))


def test_ctrl_c_while_the_command_line_is_imported_ends_it_without_a_word() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen((sys.executable, "-c", SLOW_IMPORT, "ps"), stdout=pipe, stderr=pipe) as begun:
        assert begun.stdout is not None
        assert begun.stdout.readline() == b"importing\n"
        begun.send_signal(signal.SIGINT)
        _, said = begun.communicate(timeout=TIMEOUT_S)
    assert (begun.returncode, said) == (-signal.SIGINT, b"")


def test_a_command_server_is_not_for_people() -> None:
    server = console_script.REPOSITORY / "bin" / "lab-command-server"
    done = subprocess.run((sys.executable, server, "0", "x"), check=False, capture_output=True, timeout=TIMEOUT_S)
    assert done.returncode == 2
    assert b"try: lab ps" in done.stderr
