"""What is wrong with the argument of a flag, said as docker's command line says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.errors import SpecError


@contextmanager
def argument(flag: str, text: str) -> Iterator[None]:
    """Have an error of the block name the flag and its argument.

    Raises:
        SpecError: the block's own, with both before it.
    """
    try:
        yield
    except SpecError as error:
        raise SpecError(f'invalid argument "{text}" for "{flag}" flag: {error}', hint=error.hint) from None
