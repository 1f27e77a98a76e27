"""The Markdown twin of the page: the same sentences and tables, pictures beside it as PNG."""

from __future__ import annotations

from collections.abc import Iterator

from lab.report.page import DOCUMENTS, DOCUMENTS_NOTE, Align, Chart, Page, Section, Table, Verdict

PICTURES = "charts"


def render(page: Page) -> str:
    """Return the page as GitHub-flavoured Markdown; each table is preceded by a comment with its key."""
    return "\n".join(_lines(page)).rstrip() + "\n"


def _lines(page: Page) -> Iterator[str]:
    yield f"# {page.question}"
    yield ""
    yield page.title
    yield ""
    for name, value in page.summary:
        yield f"- **{name}:** {value}"
    yield ""
    for notice in page.notices:
        yield f"> {notice}"
        yield ">"
    yield ""
    yield "## What the data says about the claims"
    yield ""
    for verdict in page.verdicts:
        yield from _verdict(verdict)
    for section in page.sections:
        yield from _section(section)
    for name, value in page.footer.items():
        yield f"{name}: {value}  "


def _verdict(verdict: Verdict) -> Iterator[str]:
    indicative = ", indicative" if verdict.indicative else ""
    yield f"### {verdict.claim}: {verdict.outcome.value}{indicative}"
    yield ""
    yield f"*{verdict.statement}*"
    yield ""
    yield verdict.sentence
    yield ""
    for item in verdict.figures:
        yield f"- **{item}**"
    for item in verdict.evidence:
        yield f"- {item}"
    for item in verdict.caveats:
        yield f"- Limits this verdict: {item}"
    yield ""


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}"
    yield ""
    for paragraph in section.lead:
        yield paragraph
        yield ""
    for chart in section.charts:
        yield from _chart(chart)
    for table in section.tables:
        yield from _table(table)
    if section.bands:
        yield "**Published elsewhere** (other machines, other years: context, not a yardstick)"
        yield ""
        for band in section.bands:
            yield f"- {band.standing}: {band.subject}, {band.value}; {band.where}. {band.source}."
        yield ""
    if section.documents:
        yield f"### {DOCUMENTS}"
        yield ""
        yield DOCUMENTS_NOTE
        yield ""
        for document in section.documents:
            yield f"- [{_text(document.title)}]({document.path}) ({document.size})"
        yield ""


def _chart(chart: Chart) -> Iterator[str]:
    yield f"### {chart.title}"
    yield ""
    yield f"![{_text(chart.title)}. {_text(chart.finding)}]({PICTURES}/{chart.key}.png)"
    yield ""
    yield chart.finding
    yield ""
    yield f"*How to read this.* {chart.reading}"
    yield ""
    yield from _table(chart.table)


def _table(table: Table) -> Iterator[str]:
    yield f"<!-- table: {table.key} -->"
    yield f"**{table.title}**"
    yield ""
    yield _row([column.title for column in table.columns])
    yield "| " + " | ".join("---:" if column.align is Align.NUMBER else "---" for column in table.columns) + " |"
    for row in table.rows:
        yield _row(row)
    yield ""
    if table.note:
        yield table.note
        yield ""
    if table.trace:
        yield f"Raw records: `{table.trace}`"
        yield ""


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _text(text: str) -> str:
    return text.replace("[", "(").replace("]", ")")
