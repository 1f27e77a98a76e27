"""Run a host program; the only place that uses ``subprocess``. Never through a shell."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL
STDOUT = subprocess.STDOUT

Process = subprocess.Popen[bytes]


class Completed(NamedTuple):
    """A program that ended: its exit code (-n after death by signal n) and what it wrote."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last newline."""
        return self.stdout.decode(errors="replace").rstrip("\n")

    @property
    def error_text(self) -> str:
        """Standard error as text, without the last newline."""
        return self.stderr.decode(errors="replace").rstrip("\n")


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_s: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> Completed:
    """Run ``argv`` to its end and return its exit code and output; a non-zero exit is not an error here.

    Raises:
        FileNotFoundError: no such program.
        PermissionError: it may not be executed.
        TimeoutError: it did not end within ``timeout_s`` seconds; it has been killed.
    """
    try:
        done = subprocess.run(
            list(argv), input=stdin, capture_output=True, timeout=timeout_s, env=env, cwd=cwd, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{argv[0]} did not end within {timeout_s:g} s") from error
    return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)


def spawn(
    argv: Sequence[str],
    *,
    stdin: int | IO[bytes] | None = DEVNULL,
    stdout: int | IO[bytes] | None = DEVNULL,
    stderr: int | IO[bytes] | None = DEVNULL,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    start_new_session: bool = False,
) -> Process:
    """Start ``argv`` and return the process, unbuffered; the caller waits for it.

    Raises:
        FileNotFoundError: no such program.
        PermissionError: it may not be executed.
    """
    return subprocess.Popen(
        list(argv),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=tuple(pass_fds),
        env=env,
        cwd=cwd,
        start_new_session=start_new_session,
        bufsize=0,
    )
