"""A user's command as the testbed's machine gets it; pure."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from lab.vm.guest_agent import GuestCommand

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def guest_command(argv: tuple[str, ...], env: Mapping[str, str], tree: str) -> GuestCommand:
    """Return a command in the tree, with the lab's environment first in its PATH; ``env`` is added, and wins."""
    default = {
        "PATH": f"{os.path.join(sys.prefix, 'bin')}:{_PATH}",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "VIRTUAL_ENV": sys.prefix,
    }
    return GuestCommand(argv=argv, env=tuple((default | dict(env)).items()), cwd=tree)
