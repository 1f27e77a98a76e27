"""The host's C compiler, for the small programs that are ours."""

from __future__ import annotations

from lab.errors import UnavailableError
from lab.linux import command

HINT = "apt install gcc libc6-dev"


def compile_c(source: bytes, output: str, flags: tuple[str, ...], *, purpose: str) -> None:
    """Compile a program to the file ``output``; ``purpose`` is what errors say that it is for.

    Raises:
        UnavailableError: there is no compiler, or it refuses.
    """
    try:
        done = command.run(("cc", *flags, "-Wall", "-o", output, "-x", "c", "-"), stdin=source)
    except FileNotFoundError as error:
        raise UnavailableError(f"no C compiler, needed for {purpose}", hint=HINT) from error
    if done.exit_code:
        raise UnavailableError(f"cannot compile {purpose}: {done.error_text.strip()[-300:]}", hint=HINT)
