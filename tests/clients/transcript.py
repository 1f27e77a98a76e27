"""A script of commands, played to docker and to the lab: what each command prints and its exit code, made comparable.

In a script ``e`` is the engine: ``e run busybox true``. Its exit code is written into the transcript, also from within
a pipeline. Containers have no network, since the daemon of the tests has none to give. The script's directory is empty
and each engine's own.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

_TIMEOUT_S = 100
_PROLOGUE = """
exec 3>&1
e() {
    case $1 in run|create) verb=$1; shift; set -- "$verb" --network=none "$@" ;; esac
    "$ENGINE" "$@"
    code=$?
    echo "[exit $code]" >&3
    return $code
}
q() { "$ENGINE" "$@" >/dev/null || echo "failed: $*" >&3; }
"""
_IDS = ((re.compile(r"\b[0-9a-f]{64}\b"), "LONG-ID"), (re.compile(r"\b[0-9a-f]{12}\b"), "SHORT-ID"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How an engine is called, and where its scripts run."""

    argv: tuple[str, ...]
    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What docker says where the lab says something else on purpose, and why."""

    docker: str
    lab: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A script, what both say about what goes wrong in it (in any case of letters), and what differs on purpose."""

    script: str
    says: tuple[str, ...] = ()
    differs: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What came of a script: standard output with exit codes, and what was said on standard error."""

    text: str
    errors: str


def _caller(engine: Engine) -> str:
    """Write the program that scripts call the engine by, and return its path."""
    path = os.path.join(engine.directory, "..", os.path.basename(engine.directory) + ".engine")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec {" ".join(engine.argv)} "$@"\n')
    os.chmod(path, 0o755)
    return path


def play(engine: Engine, caller: str, script: str) -> Transcript:
    """Play a script to one engine."""
    done = subprocess.run(
        ["sh", "-c", _PROLOGUE + script],
        cwd=engine.directory,
        env={**os.environ, "ENGINE": caller, "DOCKER_BUILDKIT": "0", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_TIMEOUT_S,
    )
    return Transcript(
        text=_comparable(done.stdout.decode(errors="backslashreplace"), engine),
        errors=_comparable(done.stderr.decode(errors="backslashreplace"), engine),
    )


def _comparable(text: str, engine: Engine) -> str:
    text = text.replace(os.path.realpath(engine.directory), "DIR")
    for pattern, name in _IDS:
        text = pattern.sub(name, text)
    return text


def check(case: Case, engines: Sequence[Engine]) -> None:
    """Play a case to docker and to the lab, in this order of ``engines``, and compare."""
    callers = [_caller(engine) for engine in engines]  # while nothing is forked that would keep them open for writing
    with ThreadPoolExecutor(2) as pool:
        docker, lab = pool.map(lambda engine, caller: play(engine, caller, case.script), engines, callers)
    expected = docker.text
    for difference in case.differs:
        assert difference.docker in expected, f"docker no longer says it:\n{expected}{docker.errors}"
        expected = expected.replace(difference.docker, difference.lab)
    changed = "\n".join(
        difflib.unified_diff(expected.splitlines(), lab.text.splitlines(), "docker", "lab", lineterm="")
    )
    assert lab.text == expected, f"{changed}\ndocker's errors:\n{docker.errors}\nthe lab's:\n{lab.errors}"
    for text in case.says:
        assert text.lower() in docker.errors.lower(), f"not said by docker:\n{docker.errors}"
        assert text.lower() in lab.errors.lower(), f"not said by the lab:\n{lab.errors}"
