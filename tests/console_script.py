"""The console script as pip installs it, in a directory of a test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def install(directory: Path, **environ: str) -> Path:
    """Build ``lab`` and its companions into a directory, and return its path."""
    argv = (sys.executable, "setup.py", "--quiet", "build_scripts", "--build-dir", str(directory))
    subprocess.run(argv, cwd=REPOSITORY, env={**os.environ, **environ}, check=True, capture_output=True)
    return directory / "lab"
