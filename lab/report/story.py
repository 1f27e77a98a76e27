"""Evidence -> the page: which sections there are, in which order, and the sentences between them."""

from __future__ import annotations

from collections.abc import Sequence

from lab.bench.model import TrialKind, TrialStatus
from lab.report import charts, claims, provenance, reference, tables, wording
from lab.report.arms import EMULATION, Isolation, series_label
from lab.report.density import density_views
from lab.report.frame import Evidence
from lab.report.material import MEMORY, material, performance_quantities, startup_quantities, view_rank
from lab.report.measures import Comparison, Quantity, compare_all, primaries, quantities
from lab.report.page import Chart, Column, Document, Page, Section, Table
from lab.units import format_duration_ns

LATENCY = "io_latency"
STARTUP_CPU = ("startup_cpu", "startup_cpu_part")
UNREAD = "memory_unread"
SHARED_DAEMONS = "memory_shared_daemons"


def tell(evidence: Evidence, *, files: bool) -> Page:
    """Return the whole page of a run; ``files`` also renders each chart as SVG and PNG that stand alone."""
    found = quantities(evidence)
    judged = material(evidence, found)
    headline = headline_quantities(evidence, found)
    comparisons = compare_all(headline, evidence.run.suite.baseline)
    sections = (
        _ratios(evidence, comparisons, files=files),
        _fairness(evidence),
        *_startup(evidence, found, files=files),
        *_memory(evidence, found, files=files),
        *_density(evidence, files=files),
        *_work(evidence, found, files=files),
        _noise(evidence, found, headline, files=files),
        _failures(evidence),
        _all_values(evidence, found),
        _claims_evidence(judged),
        _provenance(evidence),
    )
    return Page(
        title=f"{evidence.run.suite.title} · run {evidence.run.id}",
        question=evidence.run.suite.question,
        summary=summary(evidence),
        notices=notices(evidence),
        verdicts=claims.judge_all(judged),
        sections=tuple(section for section in sections if section.lead or section.charts or section.tables),
        footer={
            "lab": f"{evidence.run.lab_version}, commit {evidence.run.commit[:12] or 'not known'}",
            "results.jsonl": f"{wording.plural(len(evidence.trials), 'trial')}, schema {evidence.run.schema}",
            "order": evidence.run.order,
        },
    )


def headline_quantities(evidence: Evidence, found: Sequence[Quantity]) -> tuple[Quantity, ...]:
    """Return what the forest shows: each workload's primary, and PSS where memory was read."""
    pss = [quantity for quantity in found if quantity.metric.name == MEMORY and quantity.label("view") == "pss"]
    return tuple(_unique([*primaries(evidence, found), *pss]))


def _unique(chosen: Sequence[Quantity]) -> list[Quantity]:
    seen: list[Quantity] = []
    for quantity in chosen:
        if not any(quantity is other for other in seen):
            seen.append(quantity)
    return seen


def summary(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    """Return the few facts that stand under the question."""
    run, end = evidence.run, evidence.end
    measured = [trial for trial in evidence.trials if trial.kind is TrialKind.MEASURED]
    blocks = len({trial.block for trial in measured})
    present = [arm for arm in evidence.arms.values() if arm.available]
    machine = run.dimensions.get("cpu") or run.dimensions.get("cpu_model") or "machine not recorded"
    return (
        ("Machine", machine),
        ("Arms", f"{len(present)} of {len(evidence.arms)} measured"),
        ("Measured", f"{wording.plural(len(measured), 'trial')} in {wording.plural(blocks, 'block')}"),
        ("Baseline", evidence.arms[run.suite.baseline].label if run.suite.baseline in evidence.arms else "none"),
        ("Started", run.started_at[:16].replace("T", " ")),
        ("Stopped because", stop_reason(evidence) if end else "not ended"),
    )


STOP_REASONS = {
    "half-width": "every primary ratio met its target",
    "blocks": "all blocks were done",
    "budget": "the time budget was used",
    "given-up": "every arm that is compared had been given up",
    "interrupted": "it was interrupted",
}


def stop_reason(evidence: Evidence) -> str:
    """Return why the run stopped, in words."""
    if evidence.end is None:
        return "the run has not ended, or the machine went down"
    return STOP_REASONS.get(evidence.end.reason, evidence.end.reason)


def notices(evidence: Evidence) -> tuple[str, ...]:
    """Return what a reader must know before any number: emulation, absent arms, an unfinished run, failures."""
    said: list[str] = []
    if evidence.run.dimensions.get("hardware") == "emulated":
        said.append(
            "The whole machine is emulated (the testbed): every arm runs on a processor of software, so that no "
            "number here is hardware's, and ratios are those of instructions carried out one by one."
        )
    emulated = [arm.name for arm in evidence.arms.values() if arm.emulated and arm.available]
    if emulated:
        said.append(
            f"{wording.joined(emulated)}: {EMULATION}. These numbers are the cost of emulating a processor in "
            "software; they are not the cost of a hypervisor."
        )
    said += [claims.absence(arm) for arm in evidence.arms.values() if not arm.available]
    if evidence.end is None or evidence.end.reason == "interrupted":
        said.append("This run did not end by its own rule; resume it with lab bench resume, or read it as it is.")
    failed = sum(trial.status is TrialStatus.FAILED for trial in evidence.trials)
    if failed:
        said.append(f"{wording.plural(failed, 'trial')} failed; each is listed with its reason under Failures.")
    said += [
        f"{series_label(given_up.cell.arm, evidence.arms)} was given up on {given_up.cell.workload} in block "
        f"{given_up.block}: {given_up.reason}."
        for given_up in evidence.given_up
    ]
    return tuple(said)


def _ratios(evidence: Evidence, comparisons: Sequence[Comparison], *, files: bool) -> Section:
    if not comparisons:
        return Section(key="ratios", title="Is it different?", lead=("No arm can be compared with the baseline.",))
    return Section(key="ratios", title="Is it different?", charts=(charts.forest(evidence, comparisons, files=files),))


def _fairness(evidence: Evidence) -> Section:
    unfair = [arm for arm in evidence.arms.values() if arm.available and arm.unfair]
    lead = (
        f"Not like for like in every respect: {wording.joined([arm.label for arm in unfair])}. Verdicts in which "
        "they take part are indicative."
        if unfair
        else "Every question was answered with yes for every arm."
    )
    table = tables.fairness_table(evidence.arms)
    return Section(key="fairness", title="Is the comparison fair?", lead=(lead,), tables=(table,) if table.rows else ())


def _startup(evidence: Evidence, found: Sequence[Quantity], *, files: bool) -> tuple[Section, ...]:
    startup = startup_quantities(evidence, found)
    if not startup:
        return ()
    made: list[Chart] = []
    for quantity in startup:
        made.append(charts.ecdf(evidence, quantity, files=files))
        phases = charts.phases(evidence, quantity.workload, files=files)
        made += [phases] if phases else []
        spent = [q for q in found if q.workload == quantity.workload and q.metric.name in STARTUP_CPU]
        made += [charts.wall_and_cpu(evidence, quantity, spent, files=files)] if spent else []
    return (
        Section(
            key="startup",
            title="Start-up",
            lead=(phase_check(evidence),),
            charts=tuple(made),
            bands=reference.bands(reference.STARTUP),
        ),
    )


def phase_check(evidence: Evidence) -> str:
    """Say in how many trials the phases add up to the total that the harness recorded on its own."""
    sums = evidence.phases_frame.groupby("line")["duration_ns"].sum()
    rows = evidence.trials_frame[evidence.trials_frame["line"].isin(sums.index)].set_index("line")
    recorded = rows["recorded_total_ns"].fillna(rows["total_ns"]).astype(float)
    difference = (sums.loc[rows.index] - recorded).abs()
    if difference.empty:
        return "No trial has the marks from request to ready, so its time cannot be split into phases."
    agreeing = int((difference < 1).sum())
    if agreeing == len(difference):
        return (
            f"In each of {wording.plural(len(difference), 'trial')} the phases add up to the total that was recorded "
            "for it (largest difference: 0 ns)."
        )
    return (
        f"In {agreeing} of {wording.plural(len(difference), 'trial')} the phases add up to the recorded total; the "
        f"largest difference is {format_duration_ns(float(difference.max()))}."
    )


def _memory(evidence: Evidence, found: Sequence[Quantity], *, files: bool) -> tuple[Section, ...]:
    groups: dict[tuple[str, str], list[Quantity]] = {}
    for quantity in found:
        if quantity.metric.name == MEMORY:
            groups.setdefault((quantity.workload, quantity.label("state")), []).append(quantity)
    if not groups:
        return ()
    made = [
        charts.memory(evidence, workload, sorted(views, key=view_rank), files=files)
        for (workload, _), views in groups.items()
    ]
    daemons = [quantity for quantity in found if quantity.metric.name == SHARED_DAEMONS]
    apart = tables.values_table("daemons", "Shared daemons, counted apart from any instance", daemons, evidence.arms)
    return (
        Section(
            key="memory",
            title="Memory",
            lead=_unread(evidence, found),
            charts=tuple(made),
            tables=(apart,) if apart.rows else (),
            bands=reference.bands(reference.MEMORY),
        ),
    )


def _density(evidence: Evidence, *, files: bool) -> tuple[Section, ...]:
    views = density_views(evidence)
    if not views:
        return ()
    return (
        Section(
            key="density",
            title="Memory of each further instance",
            lead=("Density is a slope: what one more instance costs, apart from what is paid once for all of them.",),
            charts=tuple(charts.density(evidence, view, files=files) for view in views),
        ),
    )


def _unread(evidence: Evidence, found: Sequence[Quantity]) -> tuple[str, ...]:
    """Say which arms have no sums over processes, since some of these could not be read."""
    series = [name for quantity in found if quantity.metric.name == UNREAD for name in quantity.series]
    names = [series_label(name, evidence.arms) for name in dict.fromkeys(series)]
    if not names:
        return ()
    return (
        f"The memory of some processes of {wording.joined(names)} could not be read: where that happened PSS, USS and "
        "RSS are missing, since a sum without them would be too small.",
    )


def _work(evidence: Evidence, found: Sequence[Quantity], *, files: bool) -> tuple[Section, ...]:
    """Return a section per workload that works inside its target: IO, computing, commands."""
    sections = []
    latencies = [quantity for quantity in found if quantity.metric.name == LATENCY]
    for workload in dict.fromkeys(quantity.workload for quantity in latencies):
        sections.append(_disk(evidence, workload, found, files=files))
    others = [
        quantity
        for quantity in primaries(evidence, found)
        if quantity in performance_quantities(evidence, found) and quantity.metric.name != LATENCY
    ]
    for primary in others:
        alike = [q for q in found if (q.workload, q.metric.name) == (primary.workload, primary.metric.name)]
        alike.sort(key=lambda quantity: quantity is not primary)
        key, title = f"work-{primary.workload}", f"{_heading(primary)} ({primary.workload})"
        chart = charts.dots(evidence, key, title, alike, files=files)
        bands = reference.bands(reference.COMPUTE) if primary.metric.name.startswith("cpu") else ()
        sections.append(Section(key=key, title=_heading(primary), charts=(chart,), bands=bands))
    return tuple(sections)


def _heading(quantity: Quantity) -> str:
    return wording.sentence_case(quantity.metric.title)


def _disk(evidence: Evidence, workload: str, found: Sequence[Quantity], *, files: bool) -> Section:
    mine = [quantity for quantity in found if quantity.workload == workload]
    latency = [quantity for quantity in mine if quantity.metric.name == LATENCY]
    rates = [quantity for quantity in mine if quantity.metric.name == "io_rate"]
    swept = len({quantity.label("io_depth") for quantity in latency}) > 1
    draw = charts.depth_sweep if swept else charts.dots
    made = [draw(evidence, f"latency-{workload}", f"IO latency ({workload})", latency, files=files)]
    if rates:
        made.append(draw(evidence, f"rate-{workload}", f"IO throughput ({workload})", rates, files=files))
    lead = "A figure better than the bare process is a page cache somewhere until shown otherwise."
    bands = reference.bands(reference.DISK)
    return Section(key=f"io-{workload}", title=f"IO ({workload})", lead=(lead,), charts=tuple(made), bands=bands)


def _noise(evidence: Evidence, found: Sequence[Quantity], headline: Sequence[Quantity], *, files: bool) -> Section:
    startup = startup_quantities(evidence, found) or list(headline[:1])
    made = [charts.run_order(evidence, quantity, files=files) for quantity in startup[:1]]
    lead = f"The run stopped because {stop_reason(evidence)}."
    shown = (
        tables.noise_table(headline, evidence.run.suite.baseline, evidence.arms),
        provenance.overhead_table(evidence),
    )
    return Section(
        key="noise",
        title="Noise, and what measuring cost",
        lead=(lead,),
        charts=tuple(made),
        tables=tuple(table for table in shown if table.rows),
    )


def _failures(evidence: Evidence) -> Section:
    shown = (
        tables.failures_table(evidence),
        tables.given_up_table(evidence),
        tables.absent_table(evidence.arms),
    )
    failed, given_up, absent = (len(table.rows) for table in shown)
    said = [
        *([f"{wording.plural(failed, 'trial')} did not end well"] if failed else []),
        *([f"{wording.plural(given_up, 'cell')} of the schedule given up"] if given_up else []),
        *([f"{wording.plural(absent, 'arm')} of the suite cannot be measured here"] if absent else []),
    ]
    lead = f"{wording.joined(said)}." if said else "No trial failed, and no arm of the suite is missing."
    return Section(
        key="failures", title="Failures and absent arms", lead=(lead,), tables=tuple(t for t in shown if t.rows)
    )


def _all_values(evidence: Evidence, found: Sequence[Quantity]) -> Section:
    made = []
    for workload in dict.fromkeys(quantity.workload for quantity in found):
        mine = [quantity for quantity in found if quantity.workload == workload]
        made.append(tables.values_table(f"all-{workload}", f"Every quantity of {workload}", mine, evidence.arms))
    return Section(key="values", title="Every quantity", tables=tuple(made))


def _claims_evidence(judged: claims.Material) -> Section:
    rows = tuple(
        (
            claim,
            pair.quantity,
            f"{pair.subject.label}: {pair.subject_median}",
            f"{pair.reference.label}: {pair.reference_median}",
            f"{wording.ratio(pair.ratio)}× {wording.interval(pair.low, pair.high)}",
            str(pair.blocks),
            stance.value,
            wording.span(pair.lines),
        )
        for claim, pair, stance in claims.stances(judged)
    )
    columns = (*tables.columns("claim", "~quantity", "~arm, median", "~held against, median", "ratio", "blocks",
                               "~says", lines=False), tables.LINES)  # fmt: skip
    table = Table(key="evidence", title="Every comparison behind the verdicts", columns=columns, rows=rows)
    return Section(key="evidence", title="Evidence for the verdicts", tables=(table,) if rows else ())


def _provenance(evidence: Evidence) -> Section:
    made = (
        provenance.run_table(evidence),
        provenance.arms_table(evidence),
        provenance.machine_table(evidence),
        provenance.readings_table(evidence),
        Table(
            key="reproduce",
            title="Measure it again",
            columns=(Column(title="command"),),
            rows=tuple((command,) for command in provenance.commands(evidence)),
            note="The seed gives the same order of trials; the numbers are this machine's.",
        ),
    )
    lead = (
        "Every number on this page comes from results.jsonl, one record per trial. A table's last column names the "
        "lines that its numbers rest on; sed -n 'Np' results.jsonl prints line N. samples.csv and samples.parquet have "
        "one row per sample with the same line numbers."
    )
    documents = provenance.documents(evidence)
    return Section(
        key="provenance",
        title="Where the numbers come from",
        lead=(lead, *_unrecorded(evidence, documents)),
        tables=tuple(table for table in made if table.rows),
        documents=documents,
    )


def _unrecorded(evidence: Evidence, documents: Sequence[Document]) -> tuple[str, ...]:
    """Say what a reader is not told: facts of the machine, and what guests were started from."""
    recorded = {document.arm for document in documents}
    guests = [arm for arm in evidence.arms.values() if arm.available and arm.isolation is Isolation.VM]
    missing = [
        *provenance.unrecorded(evidence),
        *(f"what {arm.label} was started from" for arm in guests if arm.name not in recorded),
    ]
    return (f"Not recorded in this run: {wording.joined(missing)}.",) if missing else ()
