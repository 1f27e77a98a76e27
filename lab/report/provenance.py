"""The box that says where the numbers come from, and how to get them again."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lab.bench.host import UNKNOWN
from lab.errors import MeasurementError
from lab.report.arms import EMULATION, Isolation
from lab.report.frame import Evidence
from lab.report.page import Column, Document, Table
from lab.report.wording import slug
from lab.units import format_bytes, format_duration_ns

DIRECTORY = "provenance"
"""Where a run keeps what its targets were started from, and a report its copy: a directory per arm, a file each."""

TITLES = {
    "domain_xml": "libvirt's whole domain XML",
    "qemu_argv": "QEMU's command line, an argument a line",
    "oci_config": "the whole OCI configuration",
    "start_plan": "the plan of its start, a step a line",
    "inspect": "what the engine knows of the container",
}
"""Documents by their file's name; one that is not listed is called by that name."""

EXPECTED: Mapping[str, str] = {
    "the processor": "cpu_model",
    "its microcode": "microcode",
    "what virtualises this machine": "virtualised_by",
    "the kernel": "kernel",
    "the kernel's configuration": "kernel_config",
    "the cgroup layout": "cgroup_layout",
    "transparent huge pages": "transparent_hugepages",
    "KSM": "ksm_run",
    "mitigations": "mitigations",
    "the clock source": "clock_source",
    "the file system": "file_system",
    "its mount options": "mount_options",
    "the digest of the payload's binary": "payload_digest",
}
"""What a reader must be told about a machine to believe its numbers, and the dimension that tells it."""

HARNESS = "harness_"
"""Readings whose names begin so are what the harness itself adds to a metric: they have a table of their own."""

_TWO = (Column(title="what"), Column(title="value"))


def run_table(evidence: Evidence) -> Table:
    """Return what identifies the run: suite, seed, order, commit, times, images."""
    run, end = evidence.run, evidence.end
    rows = [
        ("run", run.id),
        ("suite", f"{run.suite.name} ({run.suite.digest})"),
        ("seed", str(run.seed)),
        ("order of all trials, digest", run.order),
        ("lab", f"{run.lab_version}, commit {run.commit or 'not known'}"),
        ("schema of results.jsonl", str(run.schema)),
        ("started at", run.started_at),
        ("ended at", end.ended_at if end else "the run has not ended"),
        *((f"image {name}", digest) for name, digest in run.images.items()),
        *((f"limits of {use.key}", f"{use.vcpus} vCPU, {format_bytes(use.memory_bytes)}, image {use.image}")
          for use in run.suite.workloads),
    ]  # fmt: skip
    return Table(key="provenance-run", title="This run", columns=_TWO, rows=tuple(rows))


def machine_table(evidence: Evidence) -> Table:
    """Return the dimensions that label every number of the run."""
    rows = tuple((_heading(name), _reading(name, value)) for name, value in evidence.run.dimensions.items())
    return Table(key="provenance-machine", title="This machine", columns=_TWO, rows=rows)


def unrecorded(evidence: Evidence) -> tuple[str, ...]:
    """Return what the run should have recorded about its machine and arms, and did not."""
    dimensions = evidence.run.dimensions
    missing = [words for words, name in EXPECTED.items() if dimensions.get(name, UNKNOWN) == UNKNOWN]
    nameless = [
        f"the version of {arm.label}"
        for arm in evidence.arms.values()
        if arm.available and arm.isolation is not Isolation.PROCESS and not {"version", "qemu"} & set(arm.facts)
    ]
    return (*missing, *nameless)


def readings_table(evidence: Evidence) -> Table:
    """Return what the host looked like before the first and after the last trial."""
    before = evidence.run.readings
    after = evidence.end.readings if evidence.end else {}
    names = list(dict.fromkeys((*before, *after)))
    return Table(
        key="readings",
        title="The host before and after",
        columns=(Column(title="reading"), Column(title="before"), Column(title="after")),
        rows=tuple(
            (
                _heading(name),
                _reading(name, before.get(name)),
                _reading(name, after.get(name)),
            )
            for name in names
            if not name.startswith(HARNESS)
        ),
    )


def _added_to(evidence: Evidence, reading: str) -> str:
    return evidence.metric(reading.removeprefix(HARNESS).removesuffix("_ns")).title


def _heading(name: str) -> str:
    return name.removesuffix("_ns").removesuffix("_bytes").replace("_", " ")


def _reading(name: str, value: str | None) -> str:
    if value is None:
        return "not read"
    # readings are text on disk; those whose name carries a unit are written with it
    if name.endswith("_ns") and value.lstrip("-").isdigit():
        return format_duration_ns(int(value))
    if name.endswith("_bytes") and value.isdigit():
        return format_bytes(int(value))
    return value


def arms_table(evidence: Evidence) -> Table:
    """Return what each arm says about itself: versions, accelerator, isolation."""
    rows = []
    for arm in evidence.arms.values():
        facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in arm.facts.items()) or "none recorded"
        kind = EMULATION if arm.emulated else arm.isolation.value
        rows.append((arm.label, kind, "measured" if arm.available else "cannot be measured here", facts))
    return Table(
        key="provenance-arms",
        title="The arms",
        columns=(Column(title="arm"), Column(title="kind"), Column(title="here"), Column(title="facts")),
        rows=tuple(rows),
    )


def documents(evidence: Evidence) -> tuple[Document, ...]:
    """Return what each arm's targets were started from, as recorded, in the order of the arms.

    Raises:
        MeasurementError: a file cannot be read.
    """
    root = os.path.join(os.path.dirname(os.path.abspath(evidence.path)), DIRECTORY)
    return tuple(
        Document(
            key=f"document-{slug(f'{arm.name} {name}')}",
            arm=arm.name,
            title=f"{arm.label}: {TITLES.get(name, name.replace('_', ' '))}",
            path=f"{DIRECTORY}/{arm.name}/{name}",
            text=_read(os.path.join(root, arm.name, name)),
        )
        for arm in evidence.arms.values()
        for name in _files(os.path.join(root, arm.name))
    )


def _files(directory: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(directory) if entry.is_file())
    except FileNotFoundError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise MeasurementError(f"cannot read {path}: {error.strerror}") from error


def overhead_table(evidence: Evidence) -> Table:
    """Return what the harness itself cost; it is shown and never subtracted."""
    end = evidence.end
    rows: list[tuple[str, str]] = []
    if end is not None:
        rows = [
            ("CPU time of the harness, last session", format_duration_ns(end.harness_cpu_ns)),
            ("CPU time of the sampler, last session", format_duration_ns(end.sampler_cpu_ns)),
            ("time measured, all sessions", format_duration_ns(end.elapsed_ns)),
        ]
    rows += [
        (f"{_added_to(evidence, name)}, of a target that does nothing (median)", _reading(name, value))
        for name, value in evidence.run.readings.items()
        if name.startswith(HARNESS)
    ]
    return Table(
        key="overhead",
        title="What the harness cost",
        columns=_TWO,
        rows=tuple(rows),
        note="Measured, shown, and never subtracted from any number.",
    )


def commands(evidence: Evidence) -> tuple[str, ...]:
    """Return the commands that measure the same again and build this page again."""
    run = evidence.run
    suite = run.suite.path or run.suite.name
    folder = os.path.basename(os.path.dirname(os.path.abspath(evidence.path)))
    return (f"sudo lab bench run {suite} --seed {run.seed}", f"lab report build {folder}")
