"""Evidence -> what the claims are judged from: which arms are held against which, on which quantities."""

from __future__ import annotations

from collections.abc import Sequence

from lab.bench.model import Better
from lab.bench.stats.verdict import Conclusion
from lab.report import wording
from lab.report.arms import TWIN_SUFFIX, ArmView, Isolation
from lab.report.claims import Finding, Material, Pair
from lab.report.density import SLOPE
from lab.report.frame import STARTUP_TOTAL, Evidence
from lab.report.measures import Comparison, Quantity, compare, primaries, summary, together
from lab.target.spec import MarkName
from lab.units import format_duration_ns, format_percent

MEMORY = "memory"
MANAGEMENT = frozenset({STARTUP_TOTAL, MEMORY, SLOPE, "exec_wall"})
"""Primary metrics that tell what it costs to have an arm, not how fast the payload runs in it."""


def material(evidence: Evidence, found: Sequence[Quantity]) -> Material:
    """Return the pairs of this run for each claim."""
    startup = startup_quantities(evidence, found)
    views = [q for q in found if q.metric.name in {MEMORY, SLOPE} and q.label("view") not in wording.PARTS]
    pss = [quantity for quantity in views if quantity.label("view") == "pss"]
    baseline = (evidence.run.suite.baseline,)
    guests, containers = _names(evidence, Isolation.VM), _names(evidence, Isolation.CONTAINER)
    return Material(
        pairs={
            "C7": pairs(evidence, startup, guests, containers),
            "C8": pairs(evidence, [view for view in views if is_defined(view)], guests, containers),
            "C5": pairs(evidence, pss, guests, baseline),
            "C13": pairs(evidence, performance_quantities(evidence, found), containers, baseline),
        },
        unjudged={"C8": tuple(_unjudged(view) for view in views if not is_defined(view))},
        notes={
            "C7": _startup_notes(evidence, startup),
            "C5": (_not_measured(sloped=any(quantity.metric.name == SLOPE for quantity in pss)),),
        },
        absent=tuple(arm for arm in evidence.arms.values() if not arm.available),
    )


def startup_quantities(evidence: Evidence, found: Sequence[Quantity]) -> list[Quantity]:
    """Return the start-up quantities of the workloads whose point is starting."""
    return [quantity for quantity in primaries(evidence, found) if quantity.metric.name == STARTUP_TOTAL]


def performance_quantities(evidence: Evidence, found: Sequence[Quantity]) -> list[Quantity]:
    """Return the quantities that tell how fast the payload works inside, each workload's primary and its rates."""
    judged = [quantity for quantity in primaries(evidence, found) if quantity.metric.name not in MANAGEMENT]
    workloads = {quantity.workload for quantity in judged}
    rates = [q for q in found if q.workload in workloads and q.metric.better is Better.HIGHER and _is_byte_rate(q)]
    return [*judged, *rates]


def _is_byte_rate(quantity: Quantity) -> bool:
    # operations per second is the same finding once more, since the block size is fixed
    return quantity.unit.value == "bytes_per_s"


def _names(evidence: Evidence, isolation: Isolation) -> tuple[str, ...]:
    return tuple(arm.name for arm in evidence.arms.values() if arm.available and arm.isolation is isolation)


def pairs(
    evidence: Evidence, quantities: Sequence[Quantity], subjects: Sequence[str], references: Sequence[str]
) -> tuple[Pair, ...]:
    """Return every subject against every reference on every quantity that both have, judged together."""
    baseline = evidence.run.suite.baseline
    made = [
        compare(quantity, subject, reference, baseline)
        for quantity in quantities
        for subject in subjects
        for reference in references
    ]
    return tuple(_pair(evidence, comparison) for comparison in together([c for c in made if c is not None], baseline))


def _pair(evidence: Evidence, comparison: Comparison) -> Pair:
    quantity, ratio = comparison.quantity, comparison.ratio
    return Pair(
        quantity=quantity.title,
        metric=quantity.metric.title,
        better=quantity.metric.better,
        subject=evidence.arms[comparison.subject],
        reference=evidence.arms[comparison.reference],
        subject_median=quantity.median_text(comparison.subject),
        reference_median=quantity.median_text(comparison.reference),
        ratio=ratio.ratio,
        low=ratio.low,
        high=ratio.high,
        blocks=ratio.count,
        finding=finding(comparison),
        more_blocks=comparison.verdict.more_blocks,
        lines=comparison.lines,
    )


def finding(comparison: Comparison) -> Finding:
    """Return what a comparison says of the cost: where higher values are better, a lower one costs more."""
    match comparison.verdict.conclusion:
        case Conclusion.EQUIVALENT:
            return Finding.SAME
        case Conclusion.INCONCLUSIVE:
            return Finding.OPEN
        case Conclusion.DIFFERENT:
            above = comparison.ratio.ratio > 1
            worse = above if comparison.quantity.metric.better is not Better.HIGHER else not above
            return Finding.HIGHER if worse else Finding.LOWER


def _startup_notes(evidence: Evidence, startup: Sequence[Quantity]) -> tuple[str, ...]:
    notes: list[str] = []
    for quantity in startup:
        notes += _added_to_baseline(evidence, quantity)
        notes += _boot_share(evidence, quantity)
    return tuple(notes)


def _added_to_baseline(evidence: Evidence, quantity: Quantity) -> list[str]:
    """Say how much later than the bare process the fastest container is ready."""
    baseline = evidence.run.suite.baseline
    medians = {name: summary(series.values).median for name, series in quantity.series.items()}
    containers = [name for name in _names(evidence, Isolation.CONTAINER) if name in medians]
    if baseline not in medians or not containers:
        return []
    fastest = min(containers, key=lambda name: medians[name])
    added = medians[fastest] - medians[baseline]
    return [
        f"{quantity.title}: the fastest container arm, {evidence.arms[fastest].label}, is ready "
        f"{format_duration_ns(abs(added))} {'after' if added >= 0 else 'before'} {evidence.arms[baseline].label} "
        f"({quantity.median_text(fastest)} against {quantity.median_text(baseline)}, medians)."
    ]


def _boot_share(evidence: Evidence, quantity: Quantity) -> list[str]:
    """Say which share of a guest's start is its kernel's boot, where both marks were seen."""
    frame = evidence.phases_frame
    notes = []
    for name in _names(evidence, Isolation.VM):
        lines = set(quantity.series[name].lines) if name in quantity.series else set()
        boot = frame[frame["line"].isin(lines) & (frame["phase"] == MarkName.USERSPACE.value)]
        entered = frame[frame["line"].isin(lines) & (frame["phase"] == MarkName.KERNEL.value)]
        if boot.empty or entered.empty:
            continue
        share = float((boot["duration_ns"] / boot["total_ns"]).median())
        duration = float(boot["duration_ns"].median())
        notes.append(
            f"{quantity.title}: {evidence.arms[name].label} spends {format_percent(share)} of its start booting "
            f"its kernel, from its entry to the payload (median {format_duration_ns(duration)})."
        )
    return notes


def is_defined(view: Quantity) -> bool:
    """Return whether every reading of a view has a ratio to another.

    The host's MemAvailable moves with all else on the host, further than a small instance moves it: its drop may be
    zero or below. To leave out such blocks alone would favour the others, so the whole view is not judged then.
    """
    return all(value > 0 for series in view.series.values() for value in series.values)


def _unjudged(view: Quantity) -> str:
    values = [value for series in view.series.values() for value in series.values]
    below = sum(value <= 0 for value in values)
    return (
        f"Not judged: {view.title}. In {below} of {wording.plural(len(values), 'reading')} it was zero or below, since "
        "the rest of the host moves it further than a small instance does."
    )


def _not_measured(*, sloped: bool) -> str:
    """Say what the run leaves open of what guests share."""
    if sloped:
        return "Whether guests share pages (KSM) needs a pair of runs, with KSM off and on."
    return (
        "Memory of one guest on its own. Whether guests share pages (KSM) and what each further guest costs (slope) "
        "needs a run with several at once."
    )


def is_twin(series: str) -> bool:
    """Return whether a series is the A/A twin."""
    return series.endswith(TWIN_SUFFIX)


def arm_of(series: str, evidence: Evidence) -> ArmView:
    """Return the arm of a series, the twin's being its baseline's."""
    return evidence.arms[series.removesuffix(TWIN_SUFFIX)]


def view_rank(quantity: Quantity) -> tuple[int, str]:
    """Return the place of a view of memory in the page's order."""
    order = list(wording.VIEWS)
    view = quantity.label("view")
    return (order.index(view) if view in order else len(order), view)
