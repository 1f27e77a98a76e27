"""A page as one self-contained HTML file: pictures, style and script are inside, nothing is loaded."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from lab.report.page import DOCUMENTS, DOCUMENTS_NOTE, Chart, Outcome, Page, Table, Verdict
from lab.report.tables import FAIRNESS

_CLASS = {Outcome.UNTESTABLE: "untestable"}

# drawn here; each outcome has a shape of its own, so that colour is never the only sign
_ICON_PATHS = {
    Outcome.SUPPORTED: '<path d="M6.5 12.5l3.6 3.6 7.4-8"/>',
    Outcome.REFUTED: '<path d="M8 8l8 8M16 8l-8 8"/>',
    Outcome.MIXED: '<path d="M12 3a9 9 0 0 1 0 18z" fill="currentColor"/>',
    Outcome.INCONCLUSIVE: '<path d="M7 10c1.700-2 3.300-2 5 0s3.300 2 5 0M7 15c1.700-2 3.300-2 5 0s3.300 2 5 0"/>',
    Outcome.UNTESTABLE: '<path d="M7.500 12h9"/>',
}

FOLD_LINES_FROM = 24
"""Line numbers of more characters than this are folded behind their count."""


FOLD_ROWS_FROM = 20
"""Tables of as many rows are folded, so that a page can be read to its end; printing unfolds them."""

_UNIT = re.compile(r"(?<=\d) (?=(?:[nµm]?s|[KMGT]?i?B(?:/s)?|%|/s)(?![\w]))")


def render(page: Page) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=PackageLoader("lab.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=units_unbroken,
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        page=page,
        css=Markup(_asset(environment, "report.css")),  # our own file, not a user's text
        script=Markup(_asset(environment, "report.js")),  # our own file
        icon=icon,
        outcome_class=outcome_class,
        picture=picture,
        lines_cell=lines_cell,
        answer_class=answer_class,
        is_long=is_long,
        verbatim=escape,
        documents_title=DOCUMENTS,
        documents_note=DOCUMENTS_NOTE,
    )


def _asset(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def icon(verdict: Verdict) -> Markup:
    """Return the sign of an outcome; the word beside it says the same."""
    return Markup(  # a constant of this file
        '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" '
        'stroke-linejoin="round" aria-hidden="true"><circle cx="12" cy="12" r="9"/>'
        f"{_ICON_PATHS[verdict.outcome]}</svg>"
    )


def outcome_class(verdict: Verdict) -> str:
    """Return the style class of an outcome."""
    return _CLASS.get(verdict.outcome, verdict.outcome.value)


def picture(chart: Chart) -> Markup:
    """Return the chart's SVG, which ``svg.for_page`` has made safe to stand in a page."""
    return Markup(chart.svg)  # made by matplotlib from escaped text


def lines_cell(text: str) -> Markup:
    """Return line numbers, folded when there are many."""
    if len(text) <= FOLD_LINES_FROM:
        return escape(text)
    return Markup("<details><summary>{}</summary>{}</details>").format(f"{_count(text)} lines", text)


def _count(text: str) -> int:
    total = 0
    for part in text.split(", "):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def answer_class(table: Table, cell: str) -> str:
    """Return the class that marks an answer on the fairness card, "" for any other cell."""
    head = cell.split(":", 1)[0]
    return f" {head}" if table.key == FAIRNESS and head in {"yes", "no"} else ""


def is_long(table: Table) -> bool:
    """Return whether a table is folded behind its title."""
    return len(table.rows) >= FOLD_ROWS_FROM


def units_unbroken(value: object) -> object:
    """Return text in which no line ends between a number and its unit; anything else, and markup, as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _UNIT.sub("\N{NO-BREAK SPACE}", value)
