"""Keep the good answers of checks that run something: for this boot, and for these very programs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence

from lab.linux import command
from lab.paths import Paths
from lab.target.spec import Availability

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def cached(
    paths: Paths, name: str, programs: Sequence[str], attempt: Callable[[], Availability], *, extra: str = ""
) -> Availability:
    """Return what ``attempt`` said earlier in this boot with the same ``programs``, else try and keep a good answer.

    A bad answer is not kept: the user is about to mend it. ``extra`` is what else the answer depends on.
    """
    identity = json.dumps([_boot_id(), extra, [_identity(program) for program in programs]])
    path = os.path.join(paths.checks, f"{name}.json")
    facts = _read(path, identity)
    if facts is not None:
        return Availability(available=True, facts=facts)
    answer = attempt()
    if answer.available:
        _write(path, identity, answer)
    return answer


def first_line(argv: Sequence[str]) -> str:
    """Return the first line that a program prints, "" when it cannot be run: its version, for labels."""
    try:
        done = command.run(argv, timeout_s=30)
    except OSError:
        return ""
    return done.text.partition("\n")[0] if done.exit_code == 0 else ""


def _boot_id() -> str:
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def _identity(program: str) -> tuple[str, int, int]:
    path = shutil.which(program) or program
    try:
        status = os.stat(path)
    except OSError:
        return path, 0, 0
    return path, status.st_mtime_ns, status.st_size


def _read(path: str, identity: str) -> tuple[tuple[str, str], ...] | None:
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        return tuple((key, value) for key, value in document["facts"]) if document["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or half-written by someone who was killed: the check is simply made again


def _write(path: str, identity: str, answer: Availability) -> None:
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.{os.getpid()}.new", "w", encoding="utf-8") as file:
            json.dump({"identity": identity, "facts": answer.facts}, file)
        os.rename(f"{path}.{os.getpid()}.new", path)
