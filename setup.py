"""Installs the console script: a small client in C where there is a compiler, else the Python script alone.

All else is in pyproject.toml.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
import tempfile

from setuptools import setup

from distutils.command.build_scripts import build_scripts  # isort: skip  # of setuptools, which has to come first

SOURCE = "lab/cli/command_client.c"
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-s")
LINKS = ("-static",), ()
"""Ways of linking: a static program starts in half the time, but not every system has the library for it."""


class BuildScripts(build_scripts):
    """Compiles ``lab``; the script of that name is then ``lab-python``, which it executes where no server answers."""

    def finalize_options(self) -> None:
        """Copy scripts in any case: what is there may be a compiled one."""
        super().finalize_options()
        self.force = True

    def run(self) -> None:
        """Make all that is to lie in the directory of scripts."""
        super().run()
        script = os.path.join(self.build_dir, "lab")
        with tempfile.TemporaryDirectory() as directory:
            client = os.path.join(directory, "lab")
            if any(_compile(client, link) for link in LINKS):
                os.replace(script, f"{script}-python")
                self.copy_file(client, script)
            else:
                self.warn("no C compiler: every `lab` will wait for the start of Python (apt install gcc libc6-dev)")
                os.unlink(f"{script}-command-server")


def _compile(output: str, link: tuple[str, ...]) -> bool:
    compiler = os.environ.get("CC", "cc").split()
    try:
        done = subprocess.run([*compiler, *FLAGS, *link, "-o", output, SOURCE], check=False, stderr=subprocess.PIPE)
    except OSError:
        return False
    return done.returncode == 0


setup(
    cmdclass={"build_scripts": BuildScripts},
    options={"bdist_wheel": {"plat_name": sysconfig.get_platform()}},  # any Python, but this kind of machine
)
