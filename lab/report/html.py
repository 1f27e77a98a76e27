"""A page as one self-contained HTML file: pictures, style and script are inside, nothing is loaded."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from lab.report.page import DOCUMENTS, DOCUMENTS_NOTE, Chart, Outcome, Page, Verdict

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


def render(page: Page) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=PackageLoader("lab.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
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
    """Return the chart's SVG, which ``figures.for_page`` has made safe to stand in a page."""
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


def answer_class(cell: str) -> str:
    """Return the class that marks a fairness answer, "" for any other cell."""
    head = cell.split(":", 1)[0]
    return f" {head}" if head in {"yes", "no"} else ""
