"""What the contract tests ask of a target, and how they look inside one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from lab.target.protocol import Target
from lab.target.spec import Command, Limits

MIB = 1024 * 1024
SHELL = ("/bin/busybox", "sh", "-c")
READY = Command(argv=(*SHELL, "trap 'exit 0' TERM; echo ready; /bin/busybox sleep 1000000 & wait $!"))
PARENT = f"lab/contract-{os.getpid()}"
LIMITS = Limits(vcpus=1, memory_bytes=192 * MIB, pids=128)
_WAIT_S = 60.0

Provision = Callable[..., Target]


def shell(target: Target, script: str) -> str:
    """Run a script inside, which must succeed, and return what it writes."""
    done = target.exec(Command(argv=(*SHELL, script)))
    assert done.exit_code == 0, done
    return done.stdout.decode().strip()


def eventually(condition: Callable[[], bool]) -> bool:
    """Return whether ``condition`` comes true within a minute."""
    deadline = time.monotonic() + _WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
