"""Write the parts of the documents that the code already says: the list of rooms, and the command reference.

Run it after adding a module, a verb or a flag: `.venv/bin/python docs/regenerate.py`. tests/meta fails until then.
"""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

from lab.cli import main
from lab.target import registry

DOCS = Path(__file__).resolve().parent
HOUSE = DOCS.parent / "lab"
ROOMS_BEGIN, ROOMS_END = "<!-- rooms -->", "<!-- /rooms -->"
OPTIONS_BEGIN, OPTIONS_END = "<!-- guest-options -->", "<!-- /guest-options -->"
CLI_INTRODUCTION = """# Command reference

Made from the parsers by `docs/regenerate.py`. `lab NOUN VERB --help` says the same. Exit codes are in
[exit-codes.md](exit-codes.md); `./lab.sh ANYTHING` is `lab ANYTHING` in the environment that lab.sh makes.
"""


def rooms() -> str:
    """Return a table of every module with the first sentence of its docstring, one heading per package."""
    lines = ["| module | what it is for |", "| --- | --- |"]
    for path in sorted(HOUSE.rglob("*.py"), key=lambda path: (path.parent, path.name)):
        summary = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
        if path.name != "__init__.py":
            lines.append(f"| `{path.relative_to(HOUSE)}` | {' '.join(summary.split()).replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def section(parser: argparse.ArgumentParser) -> str:
    """Return one command's heading, usage, arguments and examples."""
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    rows = [row for action in parser._actions for row in _row(action)]
    table = ["| argument | meaning |", "| --- | --- |", *rows, ""] if rows else []
    parts = [f"## `{parser.prog}`", "", parser.description or "", "", f"    {usage}", "", *table]
    if parser.epilog:
        parts += ["```text", parser.epilog, "```", ""]
    return "\n".join(parts)


def _row(action: argparse.Action) -> list[str]:
    if isinstance(action, argparse._HelpAction | argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
        return []
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    if action.choices is not None and action.option_strings:
        value = "{" + ",".join(str(choice) for choice in action.choices) + "}"
    name = ", ".join(f"`{f'{flag} {value}'.strip()}`" for flag in action.option_strings) or f"`{value}`"
    text = action.help or ""
    shown = text % {"default": action.default, "prog": "lab"} if "%(" in text else text.replace("%%", "%")
    return [f"| {name} | {' '.join(shown.split()).replace('|', chr(92) + '|')} |"]


def guest_options() -> str:
    """Return a table of the options of the guest arms."""
    lines = ["| option | values | default | meaning |", "| --- | --- | --- | --- |"]
    for option in registry.options_of("vm-tcg"):
        values = ", ".join(f"`{choice}`" for choice in option.choices) or type(option.default).__name__
        default = str(option.default).lower() if isinstance(option.default, bool) else f'"{option.default}"'
        lines.append(f"| `{option.name}` | {values} | {default} | {option.doc} |")
    return "\n".join(lines)


def regenerate() -> None:
    """Rewrite the parts between markers in docs/architecture.md and the suite file's page, and the commands whole."""
    _rewrite(DOCS / "architecture.md", ROOMS_BEGIN, rooms(), ROOMS_END)
    _rewrite(DOCS / "reference/suite-file.md", OPTIONS_BEGIN, guest_options(), OPTIONS_END)
    text = "\n".join([CLI_INTRODUCTION, *(section(parser) for parser in main.all_parsers())])
    (DOCS / "reference/cli.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def _rewrite(path: Path, begin: str, text: str, end: str) -> None:
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


if __name__ == "__main__":
    regenerate()
