"""What a run recorded about where its numbers come from is on the page, whole and harmless."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from unit.report import synthetic_runs as synthetic

from lab.bench import records
from lab.report import provenance, story
from lab.report.build import ReportFormat, build
from lab.report.frame import Evidence, evidence, load

ARMS = (synthetic.PROCESS, synthetic.CONTAINER, synthetic.EMULATED)
XML = "<domain type='qemu'>\n  <name>&lt;lab&gt;</name><script>alert('argv')</script>\n</domain>"
ARGV = "/usr/bin/qemu-system-x86_64\n-accel\ntcg"
LABEL = "guest-a · software emulation (TCG)"


class Details(HTMLParser):
    """Each <details> that holds a <pre>: its summary, its text, and the attributes of the <pre>."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        if tag == "details":
            self.found.append({"summary": "", "pre": ""})
        if tag == "pre":
            self.found[-1] |= {name: value or "" for name, value in attrs}

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open[: len(self._open) - 1 - self._open[::-1].index(tag)]

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in {"summary", "pre"}:
            self.found[-1][self._open[-1]] += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = synthetic.write_run(tmp_path_factory.mktemp("run"), ARMS, blocks=3, disk=False)
    kept = directory / "provenance" / "guest-a"
    kept.mkdir(parents=True)
    (kept / "domain_xml").write_text(XML)
    (kept / "qemu_argv").write_text(ARGV)
    (directory / "provenance" / "container").mkdir()
    (directory / "provenance" / "container" / "oci_config").write_text('{"ociVersion": "1.0.2"}')
    return directory


@pytest.fixture(scope="module")
def report(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("report")
    build(str(run), str(output), (ReportFormat.HTML, ReportFormat.MARKDOWN))
    return output


def test_the_page_unfolds_every_document_whole_and_escaped(report: Path) -> None:
    page = (report / "report.html").read_text()
    reader = Details()
    reader.feed(page)
    shown = {entry["summary"]: entry for entry in reader.found if entry["pre"]}
    assert {summary: entry["pre"] for summary, entry in shown.items()} == {
        "container: the whole OCI configuration (1 line)": '{"ociVersion": "1.0.2"}',
        f"{LABEL}: libvirt's whole domain XML (3 lines)": XML,
        f"{LABEL}: QEMU's command line, an argument a line (3 lines)": ARGV,
    }
    assert "<script>alert('argv')" not in page
    assert all(entry["tabindex"] == "0" and entry["aria-label"] for entry in shown.values())


def test_the_twin_links_each_document_and_every_link_arrives(report: Path, run: Path) -> None:
    text = (report / "report.md").read_text()
    for path in ("provenance/guest-a/domain_xml", "provenance/guest-a/qemu_argv", "provenance/container/oci_config"):
        assert f"]({path}) (" in text
        assert (report / path).read_bytes() == (run / path).read_bytes()


def test_a_report_beside_its_run_leaves_the_documents_as_they_are(run: Path) -> None:
    kept = run / "provenance" / "guest-a" / "domain_xml"
    before = kept.stat()
    written = build(str(run), str(run), (ReportFormat.MARKDOWN,))
    after = kept.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert not any("provenance" in path for path in written)


def test_a_guest_without_documents_is_named(tmp_path: Path) -> None:
    run = synthetic.write_run(tmp_path / "run", ARMS, blocks=3, disk=False)
    build(str(run), str(tmp_path / "report"), (ReportFormat.MARKDOWN,))
    text = (tmp_path / "report" / "report.md").read_text()
    assert re.search(f"Not recorded in this run: .*what {re.escape(LABEL)} was started from", text)


def test_what_the_run_did_not_record_of_its_machine_is_named(run: Path) -> None:
    found = load(str(run))
    complete = dict.fromkeys(provenance.EXPECTED.values(), "a value")
    assert provenance.unrecorded(machine(found, complete)) == ("the version of container",)
    assert provenance.unrecorded(machine(found, {**complete, "microcode": "unknown"}))[0] == "its microcode"
    del complete["kernel_config"]
    assert provenance.unrecorded(machine(found, complete))[0] == "the kernel's configuration"


def test_a_run_on_emulated_hardware_says_so_before_any_number(run: Path) -> None:
    found = load(str(run))
    emulated, real = (machine(found, {"hardware": kind}) for kind in ("emulated", "real"))
    assert [notice for notice in story.notices(emulated) if "whole machine is emulated" in notice]
    assert story.notices(real) == story.notices(found)


def machine(found: Evidence, dimensions: dict[str, str]) -> Evidence:
    return replace(found, run=replace(found.run, dimensions=dimensions))


def with_readings(run: Path, **readings: str) -> Evidence:
    found = load(str(run))
    changed = replace(found.run, readings={**found.run.readings, **readings})
    return evidence(found.path, changed, found.end, found.trials)


def test_what_the_harness_adds_is_told_apart_from_the_state_of_the_host(run: Path) -> None:
    found = with_readings(run, harness_startup_wall_ns="1959")
    title = found.metric("startup_wall").title
    assert (f"{title}, of a target that does nothing (median)", "1.96 µs") in provenance.overhead_table(found).rows
    assert not any("startup wall" in row[0] for row in provenance.readings_table(found).rows)


def test_every_dimension_and_reading_has_its_unit(run: Path) -> None:
    found = with_readings(run, memory_available_bytes=str(3 << 30))
    found = replace(found, run=replace(found.run, dimensions={"memory_total_bytes": str(24 << 30), "cpus": "2"}))
    assert provenance.machine_table(found).rows == (("memory total", "24.0 GiB"), ("cpus", "2"))
    assert ("memory available", "3.00 GiB", "not read") in provenance.readings_table(found).rows


def test_a_document_that_is_not_text_is_shown_as_far_as_it_can_be(tmp_path: Path) -> None:
    run = synthetic.write_run(tmp_path / "run", ARMS, blocks=3, disk=False)
    (run / "provenance" / "container").mkdir(parents=True)
    (run / "provenance" / "container" / "odd").write_bytes(b"before \xff after")
    (document,) = provenance.documents(load(str(run / records.RESULTS)))
    assert document.text == "before \N{REPLACEMENT CHARACTER} after"
