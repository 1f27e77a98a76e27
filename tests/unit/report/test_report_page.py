"""The page and its Markdown twin: one closed document, honest labels, and tables that the raw records confirm."""

from __future__ import annotations

import itertools
import json
import math
import re
import statistics
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from unit.report import synthetic_runs as synthetic

from lab.report.build import build
from lab.report.html import answer_class
from lab.report.page import Table
from lab.report.tables import FAIRNESS

EMULATION = "software emulation (TCG)"
FAILED = synthetic.failed_trial("guest-a", 3)
VOID = frozenset({"meta", "link", "br", "img", "hr", "input", "use", "path", "rect", "circle"})
SCALES = {
    "ns": 1.0, "µs": 1e3, "ms": 1e6, "s": 1e9,
    "B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30,
    "B/s": 1.0, "KiB/s": 2.0**10, "MiB/s": 2.0**20, "GiB/s": 2.0**30,
}  # fmt: skip
VIEW_WORDS = {
    "pss": "PSS",
    "pss_anon": "PSS, anonymous",
    "pss_file": "PSS, files",
    "uss": "USS",
    "rss": "RSS",
    "cgroup": "cgroup, total",
    "cgroup_working_set": "cgroup, less inactive file",
    "host_available_drop": "drop of the host's MemAvailable",
}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    inside: tuple[str, ...]
    text: str = ""


@dataclass
class Document(HTMLParser):
    """Every element with the tags it stands in, and every piece of text in order."""

    elements: list[Element] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    unclosed: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        inside = tuple(element.tag for element in self.unclosed)
        element = Element(tag, {name: value or "" for name, value in attrs}, inside)
        self.elements.append(element)
        if tag not in VOID:
            self.unclosed.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}, ()))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.unclosed.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        for element in self.unclosed:
            element.text += data
        if data.strip() and self.unclosed[-1].tag not in {"script", "style"}:
            self.texts.append(data.strip())

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]


@dataclass(frozen=True)
class Report:
    html: str
    document: Document
    markdown: str
    trials: dict[int, dict]  # type: ignore[type-arg]
    metrics: dict[str, str]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    directory = synthetic.write_run(tmp_path_factory.mktemp("run"), extra=(FAILED,))
    output = tmp_path_factory.mktemp("report")
    build(str(directory), str(output))
    html = (output / "report.html").read_text()
    document = Document()
    document.feed(html)
    records = [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]
    return Report(
        html=html,
        document=document,
        markdown=(output / "report.md").read_text(),
        trials={number: record for number, record in enumerate(records, start=1) if record["type"] == "trial"},
        metrics={metric["name"]: metric["title"] for metric in records[0]["metrics"]},
    )


# one document


def test_every_element_is_closed_where_it_was_opened(report: Report) -> None:
    assert report.document.unclosed == []


def test_the_page_has_its_landmarks_a_title_and_a_language(report: Report) -> None:
    for landmark in ("header", "nav", "main", "footer", "title", "h1"):
        assert len(report.document.all(landmark)) == 1, landmark
    assert report.document.all("html")[0].attributes["lang"] == "en"
    skip = report.document.all("a")[0]
    assert skip.attributes["href"] == "#" + report.document.all("main")[0].attributes["id"]


def test_no_heading_skips_a_level(report: Report) -> None:
    levels = [int(e.tag[1]) for e in report.document.elements if re.fullmatch(r"h[1-6]", e.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_ids_are_unique_and_every_link_within_the_page_arrives(report: Report) -> None:
    ids = [element.attributes["id"] for element in report.document.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    links = [
        value[1:]
        for element in report.document.elements
        for name, value in element.attributes.items()
        if name in {"href", "xlink:href"} and value.startswith("#")
    ]
    named = [element.attributes.get("aria-labelledby") for element in report.document.elements]
    assert set(links) | {name for name in named if name} <= set(ids)


def test_nothing_is_loaded_from_anywhere(report: Report) -> None:
    for element in report.document.elements:
        for name, value in element.attributes.items():
            if name in {"src", "srcset", "data", "poster", "action"}:
                assert value.startswith("data:"), (element.tag, name, value)
            if name in {"href", "xlink:href"} and element.tag != "a":
                assert value.startswith(("#", "data:")), (element.tag, name, value)
    assert "@import" not in report.html
    assert re.findall(r"url\(\s*['\"]?(?!#)[^)]*\)", report.html) == []
    assert re.findall(r"\b(?:fetch|XMLHttpRequest|WebSocket|importScripts)\b", report.html) == []
    assert not {"iframe", "object", "embed", "img", "base"} & {element.tag for element in report.document.elements}


def test_every_chart_has_alt_text_made_of_its_finding_and_a_table_of_its_data(report: Report) -> None:
    figures = report.html.split("<figure ")[1:]
    assert len(figures) >= 6
    for figure in (text.split("</figure>")[0] for text in figures):
        part = Document()
        part.feed("<figure " + figure + "</figure>")
        finding = " ".join(part.all("p")[0].text.split())
        picture = next(e for e in part.all("svg") if e.attributes.get("role") == "img")
        assert finding in " ".join(picture.attributes["aria-label"].split())
        assert len(part.all("table")) == 1
        assert len([e for e in part.all("tr") if "tbody" in e.inside]) >= 2
        assert {"How to read this", "Data of this chart"} <= {e.text for e in part.all("summary")}


def test_every_table_has_a_caption_and_headings_with_a_scope(report: Report) -> None:
    captions = report.document.all("caption")
    bands = [e for e in report.document.all("table") if e.attributes.get("class") == "bands"]
    assert len(captions) + len(bands) == len(report.document.all("table"))
    assert all(e.attributes.get("scope") in {"col", "row"} for e in report.document.all("th"))


def test_what_scrolls_can_be_reached_by_keyboard_and_is_named(report: Report) -> None:
    scrolling = [e for e in report.document.elements if "scroll" in e.attributes.get("class", "").split()]
    assert scrolling
    assert all(e.attributes.get("tabindex") == "0" and e.attributes.get("aria-label") for e in scrolling)


def test_what_a_record_says_cannot_become_markup(tmp_path: Path) -> None:
    evil = '<script>alert(1)</script> & "quotes" | pipe'
    absent = replace(synthetic.ABSENT, reason=evil)
    arms = (synthetic.PROCESS, synthetic.CONTAINER, absent)
    run = synthetic.write_run(tmp_path / "run", arms, blocks=5, disk=False)
    build(str(run), str(tmp_path / "report"))
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_no_line_ends_between_a_number_and_its_unit(report: Report) -> None:
    bodies = re.sub(r"<(script|style|svg|code|pre).*?</\1>", "", report.html, flags=re.DOTALL)
    shown = re.sub(r"<[^>]*>", "", bodies)
    assert len(re.findall(r"\d\N{NO-BREAK SPACE}(?:ms|MiB|µs)\b", shown)) > 100
    assert re.findall(r"\d (?:ns|µs|ms|s|MiB|KiB|GiB|MiB/s|%)(?!\w)", shown) == []


def test_what_runs_over_many_rows_is_folded_behind_its_title(report: Report) -> None:
    folded = [e for e in report.document.all("details") if "long" in e.attributes.get("class", "").split()]
    assert any(e.text.strip().startswith("Every comparison behind the verdicts (") for e in folded)


def test_only_the_fairness_card_marks_yes_and_no() -> None:
    card = Table(key=FAIRNESS, title="", columns=(), rows=())
    machine = replace(card, key="provenance-machine")
    assert [answer_class(card, cell) for cell in ("yes", "no: a reason", "not recorded")] == [" yes", " no", ""]
    assert answer_class(machine, "yes") == ""


# honest labels


def test_an_emulated_arm_is_called_software_emulation_wherever_it_is_named(report: Report) -> None:
    labels = [v for e in report.document.elements for n, v in e.attributes.items() if n in {"aria-label", "content"}]
    following = [*report.document.texts[1:], ""]
    named = 0
    for text, after in [*zip(report.document.texts, following, strict=True), *((label, "") for label in labels)]:
        for hit in re.finditer("guest-a", text.replace(FAILED.error, "")):
            rest = (text[hit.end() :].strip() or after).lstrip("·:, ").removeprefix("is ")
            assert rest.startswith(EMULATION), text
            named += 1
    assert named > 30


def test_the_twin_names_emulation_in_every_row_and_sentence(report: Report) -> None:
    for line in report.markdown.replace(FAILED.error, "").splitlines():
        for hit in re.finditer("guest-a", line):
            assert EMULATION in line[hit.end() : hit.end() + 40], line


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_an_arm_that_is_not_there_is_told_with_its_reason_before_any_number(report: Report, form: str) -> None:
    text = getattr(report, form)
    said = f"guest-b cannot be measured here: {synthetic.ABSENT.reason}."
    assert said in text
    assert text.index(said) < text.index("What the data says about the claims")


def test_absent_arms_and_failed_trials_are_rows_with_their_reasons(report: Report) -> None:
    tables = markdown_tables(report.markdown)
    assert tables["absent"] == [["guest-b", synthetic.ABSENT.reason]]
    (row,) = tables["failures"]
    assert row[0] == f"guest-a · {EMULATION}"
    assert row[3:5] == ["failed", FAILED.error]
    assert report.trials[int(row[5])]["error"] == FAILED.error


def test_a_run_that_did_not_end_says_so(tmp_path: Path) -> None:
    run = synthetic.write_run(
        tmp_path / "run", (synthetic.PROCESS, synthetic.CONTAINER), blocks=5, disk=False, end=None
    )
    build(str(run), str(tmp_path / "report"))
    assert "This run did not end by its own rule" in (tmp_path / "report" / "report.md").read_text()


def test_page_and_twin_say_the_same_about_every_claim(report: Report) -> None:
    words = [e.text for e in report.document.all("span") if e.attributes.get("class") == "word"]
    sentences = [e.text for e in report.document.all("p") if e.attributes.get("class") == "sentence"]
    assert len(sentences) == 4
    for claim, word, sentence in zip(("C7", "C8", "C5", "C13"), words, sentences, strict=True):
        assert f"### {claim}: {word}" in report.markdown
        assert sentence in report.markdown


def test_memory_that_a_log_axis_cannot_show_is_told_in_words_and_breaks_no_chart(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    # the host's MemAvailable may have grown while a small instance started: a drop below zero
    shrinking = replace(synthetic.CONTAINER, memory_mib=-1.6)
    run = synthetic.write_run(tmp_path / "run", (synthetic.PROCESS, shrinking), blocks=5, disk=False)
    build(str(run), str(tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    assert "Medians of zero or below have no mark, only their row in the table: PSS for container" in text
    assert [str(warning.message) for warning in recwarn] == []


# the numbers, computed again from results.jsonl


def test_every_value_of_the_twin_is_the_percentile_of_the_records_it_names(report: Report) -> None:
    checked = 0
    for key, rows in markdown_tables(report.markdown).items():
        if not key.startswith("all-"):
            continue
        for title, arm, count, p50, _, _, smallest, largest, lines in rows:
            values = values_of(report, title, arm, numbers(lines))
            assert len(values) == int(count), (title, arm)
            for text, expected in ((p50, statistics.median(values)), (smallest, min(values)), (largest, max(values))):
                assert number(text) == pytest.approx(expected, rel=0.006), (title, arm)
            checked += 1
    assert checked > 60


def test_the_values_tables_name_every_measured_trial_that_ended_well(report: Report) -> None:
    named = {n for key, rows in markdown_tables(report.markdown).items() if key.startswith("all-")
             for row in rows for n in numbers(row[-1])}  # fmt: skip
    usable = {n for n, trial in report.trials.items() if (trial["kind"], trial["status"]) == ("measured", "ok")}
    assert named == usable


def test_every_ratio_of_the_twin_is_that_of_its_blocks_and_lies_in_its_interval(report: Report) -> None:
    rows = markdown_tables(report.markdown)["forest"]
    assert len(rows) >= 8
    for title, arm, ratio, interval, blocks, _, _, lines in rows:
        mine = by_block(report, title, arm, numbers(lines))
        base = by_block(report, title, "process", numbers(lines))
        logs = [math.log(mine[block] / base[block]) for block in sorted(mine.keys() & base.keys())]
        assert len(logs) == int(blocks)
        walsh = [(a + b) / 2 for index, a in enumerate(logs) for b in logs[index:]]
        expected = math.exp(statistics.median(walsh))
        assert number(ratio.removesuffix("×")) == pytest.approx(expected, rel=0.006, abs=0.0051), (title, arm)
        low, high = (float(end.replace(",", "")) for end in interval.strip("[]").split(", "))
        assert low - 0.01 <= expected <= high * 1.01 + 0.01


def test_every_phase_of_the_twin_is_the_median_between_two_marks(report: Report) -> None:
    ends = {
        "program exists": "spawned", "namespaces": "namespaces", "root and devices": "environment",
        "guest kernel entered": "kernel", "payload executed": "userspace", "payload ready": "ready",
    }  # fmt: skip
    order = ["requested", *ends.values()]
    rows = markdown_tables(report.markdown)["phases-startup"]
    assert len(rows) >= 12
    for arm, phase, count, p50, _, _, lines in rows:
        durations = []
        for line in numbers(lines):
            marks = report.trials[line]["marks_ns"]
            assert belongs(report.trials[line], arm)
            seen = [name for name in order if name in marks]
            end = ends.get(phase)
            begin = seen[seen.index(end) - 1] if end else "requested"
            durations.append(marks[end or "ready"] - marks[begin])
        assert len(durations) == int(count)
        assert number(p50) == pytest.approx(statistics.median(durations), rel=0.006), (arm, phase)


def markdown_tables(text: str) -> dict[str, list[list[str]]]:
    """Return the rows of each table under the key in the comment before it."""
    tables = {}
    for part in text.split("<!-- table: ")[1:]:
        key, _, rest = part.partition(" -->")
        rows = re.findall(r"^\| (.*) \|$", rest.split("<!--")[0].split("\n## ")[0], flags=re.MULTILINE)
        tables[key] = [re.split(r"(?<!\\) \| ", row) for row in rows[2:]]
    return tables


def numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(", "):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def number(text: str) -> float:
    figure, _, unit = text.partition(" ")
    return float(figure.replace(",", "")) * (SCALES[unit] if unit else 1.0)


def belongs(trial: dict, arm: str) -> bool:  # type: ignore[type-arg]
    name = arm.replace(f" · {EMULATION}", "").removesuffix(" (A/A twin)")
    return trial["cell"]["arm"] == name and trial["cell"]["twin"] == arm.endswith("(A/A twin)")


def title_of(report: Report, workload: str, sample: dict) -> str:  # type: ignore[type-arg]
    """Return the quantity's title as the page must write it, spelt out here a second time."""
    labels = sample["labels"]
    words = [
        VIEW_WORDS.get(labels.get("view", ""), ""),
        labels.get("pattern", ""),
        f"p{labels['percentile']}" if "percentile" in labels else "",
        f"queue depth {labels['io_depth']}" if "io_depth" in labels else "",
        "volume or data disk" if labels.get("place") == "data" else "",
        labels.get("state", ""),
    ]
    return ", ".join([report.metrics[sample["metric"]], *filter(None, words)]) + f" ({workload})"


def values_of(report: Report, title: str, arm: str, lines: list[int]) -> list[float]:
    return [
        sample["value"]
        for line in lines
        if belongs(report.trials[line], arm)
        for sample in report.trials[line]["samples"]
        if title_of(report, report.trials[line]["cell"]["workload"], sample) == title
    ]


def by_block(report: Report, title: str, arm: str, lines: list[int]) -> dict[int, float]:
    return {
        report.trials[line]["block"]: values[0] for line in lines if (values := values_of(report, title, arm, [line]))
    }
