"""Commands of an example's page, or of another one, run as they stand, and what they printed compared with it.

A block of ``console`` has commands after ``$``, with their output below; ``...`` stands for anything in a line, and
alone for any lines. The commands of one page share a shell, a copy of the example's directory, and a terminal.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DOCS = EXAMPLES.parent / "docs"
CLAIMS = "explanation/where-data-lives.md"
PAGES = (CLAIMS, "how-to/connect-containers.md", "how-to/use-registries.md")
"""Pages of the documents whose commands need no more than busybox."""
NAMES = tuple(sorted(path.parent.name for path in EXAMPLES.glob("*/README.md")))
PAGE = "README.md"
LONG = ("favourites", "php-stack")
"""Those that take long, themselves or their images: not a part of the daily run."""
LONG_PAGES = (
    *((name, PAGE) for name in LONG),
    *((path.parent.name, path.name) for path in sorted(EXAMPLES.glob("*/compose.md"))),
)
"""The pages that are not a part of it."""
_PORTS = ("8080", "8081", "8082", "8083")
_MARK = "=== command {} ==="
_END = "=== end ==="
_TIMEOUT_S = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command of a page and the lines that it prints."""

    command: str
    expected: tuple[str, ...]


def steps(page: str) -> tuple[Step, ...]:
    """Return the commands of a page, in their order."""
    found: list[Step] = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *expected = part.splitlines()
            found.append(Step(command=command, expected=tuple(expected)))
    return tuple(found)


def bases() -> dict[str, tuple[str, ...]]:
    """Return the images that the examples build on and the packages of each, as the overview says."""
    made = re.findall(r"^lab image bootstrap debian --include (\S+) --tag (\S+)$", _overview(), re.MULTILINE)
    return {name: tuple(packages.split(",")) for packages, name in made}


def bases_of(name: str) -> tuple[str, ...]:
    """Return the images that an example builds on."""
    files = sorted((EXAMPLES / name).rglob("Dockerfile*"))
    return tuple(dict.fromkeys(base for file in files for base in re.findall(r"^FROM (\S+)", file.read_text())))


def _overview() -> str:
    return (EXAMPLES / "README.md").read_text()


def matches(expected: Sequence[str], printed: Sequence[str]) -> bool:
    """Return whether what was printed is what the page says."""
    pattern = "".join(
        r"(?:.*\n)*" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + r"\n" for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


def walk(
    name: str,
    engine: Sequence[str],
    directory: Path,
    *,
    page: str = PAGE,
    within: Sequence[str] = (),
    unsaid: str = "$^",
) -> list[str]:
    """Run the commands of an example's page in a copy of it below ``directory``, which is empty; else as ``follow``."""
    shutil.copytree(EXAMPLES / name, directory / name)
    return follow(EXAMPLES / name / page, engine, directory / name, within=within, unsaid=unsaid)


def follow(
    page: Path, engine: Sequence[str], work: Path, *, within: Sequence[str] = (), unsaid: str = "$^"
) -> list[str]:
    """Run a page's commands with ``engine`` called ``lab``, and return where something else was printed.

    ``work`` is where they run; ``within`` is a program that runs another one, such as nsenter with its arguments;
    ``unsaid`` is a pattern of lines that are left out of what is printed.
    """
    programs = work.parent / "bin"
    programs.mkdir()
    program = programs / "lab"
    program.write_text(f'#!/bin/sh\nexec {" ".join(engine)} "$@"\n')
    program.chmod(0o755)
    text = page.read_text()
    for port, free in zip(_PORTS, _free_ports(len(_PORTS)), strict=True):
        text = text.replace(port, str(free))
    said = steps(text)
    printed = [
        [line for line in lines if not re.fullmatch(unsaid, line)]
        for lines in _play(said, work, f"{programs}:{os.environ['PATH']}", within)
    ]
    return [
        f"$ {step.command}\nthe page says:\n{_text(step.expected)}\nit prints:\n{_text(lines)}"
        for step, lines in zip(said, printed, strict=True)
        if not matches(step.expected, lines)
    ]


def _play(said: Sequence[Step], work: Path, path: str, within: Sequence[str]) -> list[list[str]]:
    script = work.parent / "script"
    commands = "".join(f"echo '{_MARK.format(number)}'\n{step.command}\n" for number, step in enumerate(said))
    script.write_text(f"{commands}echo '{_END}'\n")
    output = _in_terminal([*within, "sh", str(script)], work, path).replace("\r\n", "\n")
    parts = re.split("^" + _MARK.format("[0-9]+") + "\n", output.partition(f"{_END}\n")[0], flags=re.MULTILINE)
    return [part.splitlines() for part in parts[1:]]


def _in_terminal(argv: Sequence[str], work: Path, path: str) -> str:
    outer, inner = pty.openpty()
    environ = {**os.environ, "PATH": path, "DOCKER_BUILDKIT": "0", "LC_ALL": "C"}
    process = subprocess.Popen(
        argv, cwd=work, env=environ, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
    )
    os.close(inner)
    try:
        return _read_to_end(outer)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(outer)


def _read_to_end(terminal: int) -> str:
    """Return all that comes before and with the end: what still runs in the background may have the terminal too."""
    output, deadline = b"", time.monotonic() + _TIMEOUT_S
    while f"{_END}\r\n".encode() not in output:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"no end in sight:\n{output.decode(errors='replace')}"
        output += os.read(terminal, 1 << 16)
    return output.decode(errors="replace")


def _free_ports(count: int) -> tuple[int, ...]:
    """Return ports that nobody has, all held until all are found, so that no two are the same."""
    with ExitStack() as held:
        listening = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in listening:
            each.bind(("", 0))
        return tuple(each.getsockname()[1] for each in listening)


def _text(lines: Sequence[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)
