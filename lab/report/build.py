"""A run's directory in, a report's files out."""

from __future__ import annotations

import os
from collections.abc import Collection
from enum import StrEnum

import pandas as pd

from lab.errors import MeasurementError
from lab.report import html, markdown
from lab.report.frame import Evidence, load
from lab.report.page import Page
from lab.report.story import tell


class ReportFormat(StrEnum):
    """What a report can be written as."""

    HTML = "html"
    MARKDOWN = "md"
    CSV = "csv"
    PARQUET = "parquet"
    PNG = "png"


PAGE = "report.html"
TWIN = "report.md"


def build(path: str, output: str, formats: Collection[ReportFormat] = tuple(ReportFormat)) -> tuple[str, ...]:
    """Write the report of the run at ``path`` into ``output`` and return the paths of the files, the page first.

    ``png`` writes each chart as PNG and SVG; ``md`` has its pictures as PNG, and so writes them too.

    Raises:
        MeasurementError: the run cannot be read, or a file cannot be written.
    """
    evidence = load(path)
    pictures = bool({ReportFormat.PNG, ReportFormat.MARKDOWN} & set(formats))
    needs_page = pictures or ReportFormat.HTML in formats
    page = tell(evidence, files=pictures) if needs_page else None
    try:
        return tuple(_write(evidence, page, output, set(formats)))
    except OSError as error:
        raise MeasurementError(f"cannot write the report into {output}: {error.strerror}") from error


def _write(evidence: Evidence, page: Page | None, output: str, formats: set[ReportFormat]) -> list[str]:
    os.makedirs(output, exist_ok=True)
    written: list[str] = []
    if page is not None and ReportFormat.HTML in formats:
        written.append(_put(output, PAGE, html.render(page).encode()))
    if page is not None and ReportFormat.MARKDOWN in formats:
        written.append(_put(output, TWIN, markdown.render(page).encode()))
        written += _put_documents(page, evidence, output)
    if ReportFormat.CSV in formats:
        written.append(_put(output, "samples.csv", flat(evidence).to_csv(index=False).encode()))
        written.append(_put(output, "trials.csv", evidence.trials_frame.to_csv(index=False).encode()))
    if ReportFormat.PARQUET in formats:
        path = os.path.join(output, "samples.parquet")
        flat(evidence).to_parquet(path, index=False)
        written.append(path)
    if page is not None and any(chart.png for chart in page.charts):
        written += _put_charts(page, os.path.join(output, markdown.PICTURES))
    return written


def _put_charts(page: Page, directory: str) -> list[str]:
    os.makedirs(directory, exist_ok=True)
    written = []
    for chart in page.charts:
        written.append(_put(directory, f"{chart.key}.png", chart.png))
        written.append(_put(directory, f"{chart.key}.svg", chart.svg_file))
    return written


def _put_documents(page: Page, evidence: Evidence, output: str) -> list[str]:
    """Copy the documents that the twin links to, unless the report is written beside the run's own."""
    if os.path.realpath(output) == os.path.realpath(os.path.dirname(evidence.path)):
        return []
    written = []
    for document in page.documents:
        directory, name = os.path.split(os.path.join(output, document.path))
        os.makedirs(directory, exist_ok=True)
        written.append(_put(directory, name, document.text.encode()))
    return written


def _put(directory: str, name: str, data: bytes) -> str:
    path = os.path.join(directory, name)
    # written beside and renamed: a page that is open in a browser is never half there
    with open(path + ".part", "wb") as file:
        file.write(data)
    os.replace(path + ".part", path)
    return path


def flat(evidence: Evidence) -> pd.DataFrame:
    """Return the raw samples for other tools: one row per sample, with the metric's unit and the run's id."""
    frame = evidence.samples_frame.copy()
    units = {name: evidence.metric(name).unit.value for name in frame["metric"].unique()}
    frame["unit"] = frame["metric"].map(units)
    frame.insert(0, "run", evidence.run.id)
    return frame
