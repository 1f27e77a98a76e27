"""The parts of a report as data, the same for HTML and Markdown: frozen nouns without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

DOCUMENTS = "What the arms were started from"
DOCUMENTS_NOTE = (
    "Recorded whole at an arm's first start in this run; starts for other workloads differ in names, paths and volumes."
)


class Align(StrEnum):
    """How a column of a table is set."""

    TEXT = "text"
    NUMBER = "number"
    LINES = "lines"  # line numbers of results.jsonl: long, and folded where the medium can fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading with the way its cells are set."""

    title: str
    align: Align = Align.TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of finished text; the first cell of each row is its heading.

    ``key`` names the table for tests and links; ``trace`` is the command that lists the raw records of its numbers.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture with all that a reader needs to trust it: alt text made of its finding, how to read it, its table.

    ``svg`` is the picture for the page; ``png`` and ``svg_file`` are the pictures for files, empty when not asked for.
    """

    key: str
    title: str
    finding: str
    reading: str
    table: Table
    svg: str
    svg_file: bytes = b""
    png: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A published result beside ours: context, never a yardstick."""

    subject: str
    value: str
    where: str
    standing: str  # "verified" or "reported"
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file that an arm was started from and that is shown whole; ``path`` is relative to the report's directory."""

    key: str
    arm: str
    title: str
    path: str
    text: str

    @property
    def size(self) -> str:
        """How much there is to unfold: "1 line", "129 lines"."""
        lines = len(self.text.splitlines())
        return f"{lines:,} line{'' if lines == 1 else 's'}"


class Outcome(StrEnum):
    """What a run says about a claim."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    MIXED = "mixed"
    INCONCLUSIVE = "inconclusive"
    UNTESTABLE = "cannot be tested here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A claim judged by data: the sentence, the figures that show it, what it rests on, and what lowers it.

    ``indicative`` is set by the first "no" on the fairness card of an arm that the verdict compares.
    """

    claim: str
    statement: str
    outcome: Outcome
    sentence: str
    figures: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    indicative: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page under one heading."""

    key: str
    title: str
    lead: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    bands: tuple[Band, ...] = ()
    documents: tuple[Document, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A whole report."""

    title: str
    question: str
    summary: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    sections: tuple[Section, ...]
    footer: Mapping[str, str] = field(default_factory=dict)

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Every chart of the page, in order."""
        return tuple(chart for section in self.sections for chart in section.charts)

    @property
    def documents(self) -> tuple[Document, ...]:
        """Every document of the page, in order."""
        return tuple(document for section in self.sections for document in section.documents)
