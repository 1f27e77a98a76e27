"""What the lists and prunes of all nouns share, as docker's do: --filter, --format, labels."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.cli.template_values import Value

FORMAT_HELP = "'table', 'json', 'table TEMPLATE' or TEMPLATE, in docker's templates"


def add_filter(parser: argparse.ArgumentParser, *flags: str, names: str) -> None:
    """Add --filter, and the short ``flags`` that mean the same; ``names`` are what can be asked for."""
    parser.add_argument(
        *flags,
        "--filter",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_filter_text,
        help=f"{names}; repeatable",
    )


def _filter_text(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f'invalid argument "{text}": bad format of filter (expected name=value)')
    return text


def label_of(labels: Mapping[str, str]) -> Callable[[Value], Value]:
    """Return what ``{{.Label "NAME"}}`` calls."""
    return lambda name: labels.get(str(name), "")


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """Return what "KEY=VALUE" flags give, the later one of a key; without "=" the value is ""."""
    return {name: value for name, _, value in (text.partition("=") for text in texts)}
