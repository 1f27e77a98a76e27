"""What is compared with what: series of one quantity become ratios to a reference, judged by ``bench.stats``.

No statistic lives here: this file pairs series and hands their blocks to ``lab.bench.stats``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lab.bench.model import Metric, Unit
from lab.bench.stats.estimate import Summary, summarise
from lab.bench.stats.ratio import block_values, log_ratios
from lab.bench.stats.verdict import (
    Conclusion,
    Ratio,
    Verdict,
    estimate_ratio,
    judge,
    judge_together,
    noise_floor,
)
from lab.report import wording
from lab.report.arms import TWIN_SUFFIX
from lab.report.frame import Evidence, Series, series_of
from lab.units import writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One thing that was measured on several arms: a metric of a workload, told apart by labels."""

    workload: str
    metric: Metric
    labels: tuple[tuple[str, str], ...]
    series: Mapping[str, Series]

    @property
    def title(self) -> str:
        """The quantity in words: "start to ready (startup)", "memory, PSS, sum, idle (startup)"."""
        words = wording.labels_in_words(self.labels)
        return f"{self.metric.title}{', ' + words if words else ''} ({self.workload})"

    @property
    def unit(self) -> Unit:
        """The unit of its values."""
        return self.metric.unit

    def label(self, key: str) -> str:
        """Return the value of one label, "" where it has none of that name."""
        return dict(self.labels).get(key, "")

    def median_text(self, series: str) -> str:
        """Return the median of a series with its unit."""
        return writer(self.unit)(summarise(self.series[series].values).median)

    def quiet(self) -> Quantity:
        """Return the quantity without the samples of flagged trials; series that lose all of them are gone."""
        kept = {name: series.quiet() for name, series in self.series.items()}
        return Quantity(
            workload=self.workload,
            metric=self.metric,
            labels=self.labels,
            series={name: series for name, series in kept.items() if series.values},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A series held against a reference on one quantity, block by block; ``lines`` are the trials it rests on."""

    quantity: Quantity
    subject: str
    reference: str
    ratio: Ratio
    verdict: Verdict
    lines: tuple[int, ...]

    @property
    def reading(self) -> str:
        """What it says in words: "different: higher", "equivalent", "inconclusive, about 12 more blocks needed"."""
        match self.verdict.conclusion:
            case Conclusion.DIFFERENT:
                return f"different: {self._direction()}"
            case Conclusion.EQUIVALENT:
                return "equivalent"
            case Conclusion.INCONCLUSIVE:
                more = self.verdict.more_blocks
                return "inconclusive" + (f", about {wording.plural(more, 'more block')} needed" if more else "")

    def _direction(self) -> str:
        higher = self.ratio.ratio > 1
        if self.quantity.unit is Unit.NANOSECONDS:
            return "takes longer" if higher else "takes less"
        return "more" if higher else "less"


def summary(values: Sequence[float]) -> Summary:
    """Return the percentiles of samples, by the one definition that the lab uses."""
    return summarise(values)


def quantities(evidence: Evidence) -> tuple[Quantity, ...]:
    """Return every quantity of the run, in order of first appearance, its series in the order of the arms."""
    grouped: dict[tuple[str, str, tuple[tuple[str, str], ...]], dict[str, Series]] = {}
    for series in series_of(evidence.samples_frame):
        grouped.setdefault((series.workload, series.metric, series.labels), {})[series.series] = series
    workloads = [use.key for use in evidence.run.suite.workloads]
    found = [
        Quantity(
            workload=workload,
            metric=evidence.metric(metric),
            labels=labels,
            series={name: members[name] for name in series_order(members, evidence)},
        )
        for (workload, metric, labels), members in grouped.items()
    ]
    return tuple(sorted(found, key=lambda quantity: _rank(workloads, quantity.workload)))


def _rank(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def series_order(names: Iterable[str], evidence: Evidence) -> list[str]:
    """Return series in the order of the run's arms, the A/A twin after its arm."""
    arms = list(evidence.arms)
    return sorted(names, key=lambda name: (_rank(arms, name.removesuffix(TWIN_SUFFIX)), name.endswith(TWIN_SUFFIX)))


def primaries(evidence: Evidence, found: Sequence[Quantity]) -> tuple[Quantity, ...]:
    """Return the quantities by which the run says its workloads are judged first."""
    chosen = []
    for primary in evidence.run.primary:
        wanted = set(primary.labels.items())
        chosen += [
            quantity
            for quantity in found
            if (quantity.workload, quantity.metric.name) == (primary.workload, primary.metric)
            and wanted <= set(quantity.labels)
        ]
    return tuple(chosen)


def tau_of(quantity: Quantity, baseline: str) -> float:
    """Return the noise floor of a quantity as a log ratio, from the A/A twin of the baseline."""
    twin = _ratio(quantity, baseline + TWIN_SUFFIX, baseline)
    return noise_floor(twin)


def compare(quantity: Quantity, subject: str, reference: str, baseline: str) -> Comparison | None:
    """Return how ``subject`` compares with ``reference``; None when no block has both."""
    ratio = _ratio(quantity, subject, reference)
    if ratio is None:
        return None
    return Comparison(
        quantity=quantity,
        subject=subject,
        reference=reference,
        ratio=ratio,
        verdict=judge(ratio, tau_of(quantity, baseline)),
        lines=_lines(quantity, subject, reference),
    )


def compare_all(chosen: Sequence[Quantity], baseline: str) -> tuple[Comparison, ...]:
    """Return every series of the quantities against the baseline, A/A twin first, judged together (Holm)."""
    made = []
    for quantity in chosen:
        names = [name for name in quantity.series if name != baseline]
        for name in sorted(names, key=lambda name: not name.endswith(TWIN_SUFFIX)):
            made.append(compare(quantity, name, baseline, baseline))
    return together([comparison for comparison in made if comparison is not None], baseline)


def together(comparisons: Sequence[Comparison], baseline: str) -> tuple[Comparison, ...]:
    """Return the comparisons with verdicts that also hold for having been looked at together."""
    taus = [tau_of(comparison.quantity, baseline) for comparison in comparisons]
    verdicts = judge_together([comparison.ratio for comparison in comparisons], taus)
    return tuple(
        Comparison(
            quantity=comparison.quantity,
            subject=comparison.subject,
            reference=comparison.reference,
            ratio=comparison.ratio,
            verdict=verdict,
            lines=comparison.lines,
        )
        for comparison, verdict in zip(comparisons, verdicts, strict=True)
    )


def _ratio(quantity: Quantity, subject: str, reference: str) -> Ratio | None:
    if subject not in quantity.series or reference not in quantity.series:
        return None
    logs = log_ratios(_blocks(quantity.series[subject]), _blocks(quantity.series[reference]))
    return _estimate(logs) if logs else None


@lru_cache(maxsize=4096)
def _estimate(logs: tuple[float, ...]) -> Ratio:
    # a bootstrap costs tens of milliseconds, and one page asks for the same ratio in several places
    return estimate_ratio(logs)


def _blocks(series: Series) -> dict[int, float]:
    return block_values(tuple(zip(series.blocks, series.values, strict=True)))


def _lines(quantity: Quantity, subject: str, reference: str) -> tuple[int, ...]:
    return tuple(sorted({*quantity.series[subject].lines, *quantity.series[reference].lines}))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisePair:
    """One headline ratio from all samples and from the quiet ones alone, as text."""

    quantity: Quantity
    series: str
    trials: int
    flagged: int
    everything: str
    quiet: str


def noise_pairs(chosen: Sequence[Quantity], baseline: str) -> tuple[NoisePair, ...]:
    """Return each series' ratio to the baseline with and without flagged trials."""
    pairs = []
    for quantity in chosen:
        quiet = quantity.quiet()
        for name, series in quantity.series.items():
            if name == baseline:
                continue
            pairs.append(
                NoisePair(
                    quantity=quantity,
                    series=name,
                    trials=len(set(series.lines)),
                    flagged=len({line for line, flag in zip(series.lines, series.flagged, strict=True) if flag}),
                    everything=ratio_text(_ratio(quantity, name, baseline)),
                    quiet=ratio_text(_ratio(quiet, name, baseline)),
                )
            )
    return tuple(pairs)


def ratio_text(ratio: Ratio | None) -> str:
    """Return a ratio with its interval, or that there is none."""
    if ratio is None:
        return "none left"
    if ratio.count < 2:
        return f"{wording.ratio(ratio.ratio)}× (1 block)"
    return f"{wording.ratio(ratio.ratio)}× {wording.interval(ratio.low, ratio.high)}"
