"""Published results as context beside ours: with hardware and year, marked by how they were checked; never a yardstick.

A row that was recomputed from raw data, read in a specification or taken from an abstract is *verified*; one that was
read in a secondary text is *reported*.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass

from lab.report.page import Band
from lab.units import NS_PER_MS, format_bytes

_DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference")
RESULTS_CSV = os.path.join(_DIRECTORY, "published-results.csv")

_VERIFIED = frozenset({"raw", "src", "abs"})

SOURCES = {
    "NSD": "Agache et al., Firecracker, NSDI 2020, raw data",
    "FEL": "Felter et al., IBM RC25482 / ISPASS 2015, raw data",
    "GVC": "gVisor's published benchmark data",
    "XEN": "Barham et al., SOSP 2003",
    "FCS": "Firecracker's specification",
    "QBT": "qemu-boot-time, its README",
    "KCM": "Linux commit b7ffc44d5b2e",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One number that somebody published."""

    metric: str
    value: str
    unit: str
    system: str
    config: str
    hardware: str
    year: str
    source: str
    tag: str

    @property
    def standing(self) -> str:
        """ "verified" or "reported", by how the number was checked."""
        return "verified" if self.tag in _VERIFIED else "reported"

    @property
    def text(self) -> str:
        """The value with its unit; the KB of one source are 1024 bytes, as its authors say."""
        if self.source == "NSD" and self.unit == "KB":
            return format_bytes(float(self.value) * 1024)
        return f"{self.value} {self.unit}"


def published() -> tuple[Published, ...]:
    """Return every row of the data file."""
    with open(RESULTS_CSV, encoding="utf-8", newline="") as file:
        return tuple(Published(**row) for row in csv.DictReader(file))


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows stand beside a section, and what they measured in words."""

    metric: str
    words: str
    config: str = ""  # only rows whose configuration begins so
    systems: tuple[str, ...] = ()


STARTUP = (
    Selection(
        metric="boot_exec_to_exit_p50",
        words="boot, exec to exit, median",
        config="serial",
        systems=("firecracker-api", "cloud-hypervisor", "qemu", "qemu-microvm"),
    ),
    Selection(metric="boot_limit", words="guaranteed limit, start to init"),
    Selection(metric="startup_docker", words="docker start to exit", config="empty"),
    Selection(metric="create_start_delete", words="create, start and delete"),
    Selection(metric="fork_exec", words="fork and exec"),
    Selection(metric="vm_boot", words="boot"),
)
MEMORY = (
    Selection(metric="rss_idle", words="RSS at idle", config="guest 128 MiB"),
    Selection(metric="rss_idle", words="RSS at idle", config="guest 256 MiB"),
    Selection(metric="density_memavailable_per_instance", words="MemAvailable per instance", config="empty"),
    Selection(metric="pss_per_container", words="PSS per container"),
)
DISK = (
    Selection(metric="fio_randread_4k_qd1_clat_p50", words="4 KiB random read, depth 1, median latency"),
    Selection(metric="fio_randread_4k_qd16", words="4 KiB random read, depth 16"),
)
COMPUTE = (Selection(metric="linpack", words="Linpack"), Selection(metric="linpack_kflops", words="Linpack"))


def bands(selections: Sequence[Selection]) -> tuple[Band, ...]:
    """Return the published results of a section as context, in the order of the selections."""
    rows = published()
    found = [(row, wanted) for wanted in selections for row in rows if _fits(row, wanted)]
    # the same system in further configurations adds length, not context
    first = {(row.system, wanted.metric, wanted.config): (row, wanted) for row, wanted in reversed(found)}
    return tuple(
        _band(row, wanted) for row, wanted in found if first[row.system, wanted.metric, wanted.config][0] is row
    )


def _fits(row: Published, wanted: Selection) -> bool:
    listed = not wanted.systems or row.system in wanted.systems
    return row.metric == wanted.metric and row.config.startswith(wanted.config) and listed


def _band(row: Published, wanted: Selection) -> Band:
    detail = f" ({row.config})" if row.config else ""
    where = ", ".join(part for part in (row.hardware or "hardware not stated", row.year) if part)
    return Band(
        subject=f"{row.system}: {wanted.words}{detail}",
        value=row.text,
        where=where,
        standing=row.standing,
        source=SOURCES.get(row.source, row.source),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Published values of one kind, as a span on an axis [ns]."""

    label: str
    low: float
    high: float


def startup_ranges() -> tuple[Range, ...]:
    """Return the published start-up times that stand beneath our own, each kind with its hardware and year."""
    rows = published()
    return (
        _range(rows, "boot_exec_to_exit_p50", "serial", "guests under KVM"),
        _range(rows, "create_start_delete", "", "OCI runtimes"),
        _range(rows, "startup_docker", "empty", "docker start"),
    )


def _range(rows: Sequence[Published], metric: str, config: str, words: str) -> Range:
    chosen = [row for row in rows if row.metric == metric and row.config.startswith(config) and row.unit == "ms"]
    values_ns = [float(row.value) * NS_PER_MS for row in chosen]
    first = chosen[0]
    where = f"{first.hardware or 'hardware not stated'}, {first.year}, {first.standing}"
    return Range(label=f"{words} ({where})", low=min(values_ns), high=max(values_ns))
