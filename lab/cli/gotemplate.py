"""Output as ``--format`` asks for it: a subset of Go's templates with docker's functions; pure.

Understood are text, ``{{`` and ``}}`` with ``-`` for trimming, and comments; ``.``, ``.A.B``, ``$``, ``$x``, strings,
raw strings, characters, numbers, ``true false nil``; ``(…)``, ``(…).A``, ``|``; ``$x := …``, ``$x = …``;
``if``/``else if``/``else``, ``with``/``else``, ``range``/``else`` (also ``$v :=`` and ``$k, $v :=``), ``break``,
``continue``, ``end``; the functions of ``template_functions``. Go's ``define template block call js`` are refused.

A format for rows may begin with ``table``: then a line of headings comes first and columns are aligned. ``json``
alone is one object a line. In a format for rows ``\\t`` and ``\\n`` are a tab and a newline.
Sources: https://docs.docker.com/engine/cli/formatting/, https://pkg.go.dev/text/template.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.cli.columns import align
from lab.cli.template_evaluation import Evaluation
from lab.cli.template_functions import FUNCTIONS, LAZY, Function, heading_functions
from lab.cli.template_syntax import Node, parse_nodes
from lab.cli.template_values import Row, Value, encoded
from lab.errors import EXIT_TEMPLATE, TemplateError

TABLE = "table"
JSON = "json"
_ROW_JSON = "{{json .}}"
_NAMES = frozenset((*FUNCTIONS, *LAZY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template that has been understood."""

    source: str
    nodes: tuple[Node, ...]

    def render(self, value: Value, functions: Mapping[str, Function] = FUNCTIONS) -> str:
        """Return the text that the template makes of a value: what JSON can hold, and functions of one text.

        Raises:
            TemplateError: it asks for what is not there, or gives a function what it does not take.
        """
        return Evaluation(self.source, value, functions).render(self.nodes, value)


def parse(text: str) -> Template:
    """Return the template in ``text``.

    Raises:
        TemplateError: with docker's words: ``template parsing error: template: :1: unclosed action``.
    """
    return Template(source=text, nodes=parse_nodes(text, _NAMES))


def table(columns: Iterable[str]) -> str:
    """Return the format of a table with these columns."""
    return f"{TABLE} " + "\t".join(columns)


def render_rows(
    text: str, rows: Iterable[Mapping[str, Value]], headings: Mapping[str, str], *, default: str = ""
) -> str:
    """Return rows as docker's lists write them: each ends with a newline, a table's headings come first.

    ``text`` is the user's format; "" and ``table`` alone stand for ``default``. A row's values are text, numbers and
    truths, or functions of one text (``{{.Label "key"}}``), which ``{{json .}}`` leaves out.

    Raises:
        TemplateError: see ``parse`` and ``Template.render``.
    """
    given = default if text.strip(" ") in ("", TABLE) else text
    is_table = given.startswith(TABLE)
    template = parse(
        _ROW_JSON if given == JSON else given.removeprefix(TABLE).strip(" ").replace("\\t", "\t").replace("\\n", "\n")
    )
    lines = [f"{template.render(Row(row))}\n" for row in rows]
    if not is_table:
        return "".join(lines)
    return align(_headings(template, headings) + "\n" + "".join(lines))


def _headings(template: Template, headings: Mapping[str, str]) -> str:
    try:
        return template.render({**headings, "Label": _label_heading}, heading_functions())
    except TemplateError:  # a heading is less than a row: docker leaves the line empty as well
        return ""


def _label_heading(name: str) -> str:
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def _as_it_is(document: Value) -> Value:
    return document


def render_documents(text: str, documents: Sequence[Value], *, as_go: Callable[[Value], Value] = _as_it_is) -> str:
    """Return documents as docker's ``inspect`` writes them: as a JSON array, or each by a template on its own line.

    ``as_go`` gives a document the types that Go has for it, for templates.

    Raises:
        TemplateError: see ``parse``, whose exit code is 64 here as in docker, and ``Template.render``.
    """
    if text == "":
        return json.dumps(list(documents), indent=4, ensure_ascii=False) + "\n"
    if text == JSON:
        return encoded(list(documents)) + "\n"
    try:
        template = parse(text)
    except TemplateError as error:
        error.exit_code = EXIT_TEMPLATE
        raise
    return "".join(f"{template.render(as_go(document))}\n" for document in documents) or "\n"
