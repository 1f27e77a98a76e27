"""The course's claims and how each is judged from the data, with the evidence; pure.

A claim is judged by pairs: one arm against another on one quantity. Each pair supports the claim, contradicts it, or
is open; the claim's outcome follows from all of them by one rule (``combine``), and every sentence is written from the
same pairs, so that it cannot say anything else. What tells the claims apart is data: see ``CLAIMS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lab.bench.model import Better
from lab.bench.stats.verdict import FEWEST_BLOCKS
from lab.report.arms import EMULATION, ArmView, Isolation
from lab.report.page import Outcome, Verdict
from lab.report.wording import direction, interval, plural, sentence_case
from lab.report.wording import ratio as ratio_text

MUCH = 2.0
"""From which factor on memory counts as "much" more in claim C5; declared here, not found in the data."""

SHOWN_PAIRS = 6
"""How many pairs a verdict quotes; the table of evidence has all of them."""


class Finding(StrEnum):
    """What the interval of a ratio says, given the band ±τ within which no difference counts."""

    HIGHER = "higher"
    LOWER = "lower"
    SAME = "same"
    OPEN = "open"


class Stance(StrEnum):
    """What one pair says about a claim."""

    SUPPORTS = "supports"
    CONTRADICTS = "contradicts"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One arm held against another on one quantity.

    ``ratio`` is subject over reference with its 95 % interval ``low`` to ``high`` over ``blocks`` blocks;
    the medians are finished text with units. Ratios are comparable within one ``metric`` only: which way is better
    differs between them. ``more_blocks`` estimates what an open pair still needs; ``lines`` are the trials that the
    pair rests on.
    """

    quantity: str
    metric: str
    better: Better
    subject: ArmView
    reference: ArmView
    subject_median: str
    reference_median: str
    ratio: float
    low: float
    high: float
    blocks: int
    finding: Finding
    more_blocks: int | None = None
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What the claims are judged from.

    ``pairs`` are those of each claim by its key. ``unjudged`` says by claim which quantities make no pair, and why;
    ``notes`` are further findings by claim. ``absent`` are arms that this host could not give.
    """

    pairs: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)
    unjudged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    absent: tuple[ArmView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim and how it is judged: what one pair says of it, and what its outcomes are called.

    ``sentences`` open a verdict; "{share}" in them is the supporting share of the pairs, "{more}" how many blocks are
    still needed. ``missing`` is what a run without a single pair lacks. ``rider`` stands in the verdict of a claim
    that was judged by emulated guests alone.
    """

    key: str
    statement: str
    stance_of: Callable[[Pair], Stance]
    sentences: Mapping[Outcome, str]
    missing: str
    rider: str = ""


def stances(material: Material) -> tuple[tuple[str, Pair, Stance], ...]:
    """Return every pair of every claim with what it says, for the table of evidence."""
    return tuple(
        (claim.key, pair, claim.stance_of(pair)) for claim in CLAIMS for pair in material.pairs.get(claim.key, ())
    )


def judge_all(material: Material) -> tuple[Verdict, ...]:
    """Return the verdict on each claim that a run of this kind can speak to, in the order of the page."""
    return tuple(judge(claim, material) for claim in CLAIMS)


def judge(claim: Claim, material: Material) -> Verdict:
    """Return the verdict on one claim: its outcome, the sentence and figures that the pairs give, what limits it."""
    pairs = material.pairs.get(claim.key, ())
    said = [claim.stance_of(pair) for pair in pairs]
    outcome = combine(said)
    if outcome is Outcome.UNTESTABLE:
        return _untestable(claim, material)
    lead = claim.sentences[outcome].format(share=_share(said), more=_more(pairs))
    rider = claim.rider if all(pair.subject.emulated for pair in pairs) else ""
    return Verdict(
        claim=claim.key,
        statement=claim.statement,
        outcome=outcome,
        sentence=" ".join(part for part in (lead, rider) if part),
        figures=(
            _example(_telling(pairs, said, outcome)),
            *_ranges(pairs),
            *material.unjudged.get(claim.key, ()),
        ),
        evidence=(*_evidence(pairs, said), *material.notes.get(claim.key, ())),
        caveats=caveats(pairs, material.absent),
        indicative=any(arm.unfair for arm in _arms(pairs)),
    )


def combine(stances: Sequence[Stance]) -> Outcome:
    """Return the outcome of all pairs: one open pair keeps a claim open unless pairs already disagree."""
    said = set(stances)
    if not said:
        return Outcome.UNTESTABLE
    if {Stance.SUPPORTS, Stance.CONTRADICTS} <= said:
        return Outcome.MIXED
    if Stance.OPEN in said:
        return Outcome.INCONCLUSIVE
    return Outcome.SUPPORTED if Stance.SUPPORTS in said else Outcome.REFUTED


def _supports_if_higher(pair: Pair) -> Stance:
    if pair.finding is Finding.OPEN:
        return Stance.OPEN
    return Stance.SUPPORTS if pair.finding is Finding.HIGHER else Stance.CONTRADICTS


def _supports_if_much(pair: Pair) -> Stance:
    if pair.blocks < FEWEST_BLOCKS:
        return Stance.OPEN
    if pair.low >= MUCH:
        return Stance.SUPPORTS
    return Stance.CONTRADICTS if pair.high < MUCH else Stance.OPEN


def _supports_unless_higher(pair: Pair) -> Stance:
    if pair.finding is Finding.OPEN:
        return Stance.OPEN
    return Stance.CONTRADICTS if pair.finding is Finding.HIGHER else Stance.SUPPORTS


def _untestable(claim: Claim, material: Material) -> Verdict:
    reasons = [absence(arm) for arm in material.absent]
    return Verdict(
        claim=claim.key,
        statement=claim.statement,
        outcome=Outcome.UNTESTABLE,
        sentence=" ".join((f"This run has no {claim.missing}.", *reasons)),
        caveats=tuple(reasons),
    )


def absence(arm: ArmView) -> str:
    """Return the sentence on an arm that this host could not give."""
    reason = arm.reason.strip().rstrip(".") or "no reason was recorded"
    return f"{arm.label} cannot be measured here: {reason}."


def describe(pair: Pair, stance: Stance) -> str:
    """Return one pair as a line of evidence."""
    says = "open" if stance is Stance.OPEN else f"{stance.value} it"
    return (
        f"{pair.quantity}: {pair.subject.label} {pair.subject_median}, {pair.reference.label} {pair.reference_median}; "
        f"ratio {ratio_text(pair.ratio)} {interval(pair.low, pair.high)} over {plural(pair.blocks, 'block')}: {says}."
    )


def _evidence(pairs: Sequence[Pair], stances: Sequence[Stance]) -> tuple[str, ...]:
    """Return the pairs in words, those that do not support the claim first, and how many were left to the table."""
    judged = sorted(zip(pairs, stances, strict=True), key=lambda item: item[1] is Stance.SUPPORTS)
    shown = tuple(describe(pair, stance) for pair, stance in judged[:SHOWN_PAIRS])
    rest = [stance for _, stance in judged[SHOWN_PAIRS:]]
    if not rest:
        return shown
    supporting = sum(stance is Stance.SUPPORTS for stance in rest)
    said = "all of them support it" if supporting == len(rest) else f"{supporting} of them support it"
    return (*shown, f"And {len(rest)} more comparisons, {said}: see the table of evidence.")


def _telling(pairs: Sequence[Pair], stances: Sequence[Stance], outcome: Outcome) -> Pair:
    """Return the pair to quote: the first that speaks for the outcome."""
    wanted = {Outcome.MIXED: Stance.CONTRADICTS, Outcome.REFUTED: Stance.CONTRADICTS, Outcome.INCONCLUSIVE: Stance.OPEN}
    sought = wanted.get(outcome, Stance.SUPPORTS)
    return next(pair for pair, stance in zip(pairs, stances, strict=True) if stance is sought)


def _example(pair: Pair) -> str:
    return (
        f"{sentence_case(pair.quantity)}: {pair.subject.label} {pair.subject_median}, {pair.reference.label} "
        f"{pair.reference_median}; a ratio of {ratio_text(pair.ratio)}, 95 % interval "
        f"{interval(pair.low, pair.high)}."
    )


def _ranges(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Say between which ends the ratios of each metric lie: a ratio of times and one of rates share no range."""
    if len(pairs) == 1:
        return ()
    metrics = dict.fromkeys(pair.metric for pair in pairs)
    return tuple(_range(metric, [pair for pair in pairs if pair.metric == metric]) for metric in metrics)


def _range(metric: str, pairs: Sequence[Pair]) -> str:
    ratios = [pair.ratio for pair in pairs]
    low, high = ratio_text(min(ratios)), ratio_text(max(ratios))
    runs = f"is {low}" if low == high else f"runs from {low} to {high}"
    return f"Ratio of {metric} over {plural(len(pairs), 'comparison')} {runs} ({direction(pairs[0].better)})."


def _share(stances: Sequence[Stance]) -> str:
    """Return how many pairs support the claim, and what the others say: none is left out of the count."""
    support, against, unclear = (stances.count(s) for s in (Stance.SUPPORTS, Stance.CONTRADICTS, Stance.OPEN))
    still_open = f" and {unclear} {'is' if unclear == 1 else 'are'} open" if unclear else ""
    speak = "speaks" if against == 1 else "speak"
    return f"{support} of {len(stances)} comparisons; {against} {speak} against it{still_open}"


def _more(pairs: Sequence[Pair]) -> str:
    needed = [pair.more_blocks for pair in pairs if pair.finding is Finding.OPEN and pair.more_blocks]
    return f"; about {max(needed)} more blocks are needed" if needed else ""


def _arms(pairs: Sequence[Pair]) -> tuple[ArmView, ...]:
    found = {arm.name: arm for pair in pairs for arm in (pair.subject, pair.reference)}
    return tuple(found.values())


def caveats(pairs: Sequence[Pair], absent: Sequence[ArmView]) -> tuple[str, ...]:
    """Return what limits a verdict: emulation, every "no" of the fairness card, and arms that are not there."""
    said: list[str] = []
    for arm in _arms(pairs):
        if arm.emulated:
            said.append(f"{arm.name} is {EMULATION}: its numbers are the cost of emulating a processor in software, "
                        "not the cost of a hypervisor.")  # fmt: skip
        said.extend(f"{arm.label}: {question}? No{': ' + reason if reason else ''}." for question, reason in arm.unfair)
    guests = [arm for arm in absent if arm.isolation is Isolation.VM]
    return (*said, *(absence(arm) for arm in guests))


CLAIMS: tuple[Claim, ...] = (
    Claim(
        key="C7",
        statement="Containers start at once: there is no hardware to initialise and no system to boot.",
        stance_of=_supports_if_higher,
        sentences={
            Outcome.SUPPORTED: "Every container was ready sooner than every guest.",
            Outcome.REFUTED: "No guest needed longer than the containers to be ready.",
            Outcome.MIXED: "Containers were ready sooner than guests in {share}.",
            Outcome.INCONCLUSIVE: "The start-up times cannot yet be told apart in every comparison{more}.",
        },
        missing="start-up of a container beside that of a guest",
        rider=f"The only guests here are {EMULATION}, which is slower than a hypervisor would be.",
    ),
    Claim(
        key="C8",
        statement="Containers need fewer resources: no guest system in memory, none set aside beforehand.",
        stance_of=_supports_if_higher,
        sentences={
            Outcome.SUPPORTED: "In every view of memory that can be judged a guest takes more than a container.",
            Outcome.REFUTED: "In no view of memory that can be judged does a guest take more than a container.",
            Outcome.MIXED: "A guest takes more memory than a container in {share}.",
            Outcome.INCONCLUSIVE: "The memory of guests and containers cannot yet be told apart in every view{more}.",
        },
        missing="memory of a container beside that of a guest",
    ),
    Claim(
        key="C5",
        statement="Full virtualization costs much: guests share nothing, though most of them run the same system.",
        stance_of=_supports_if_much,
        sentences={
            Outcome.SUPPORTED: "A guest takes at least twice the memory of the bare process.",
            Outcome.REFUTED: "A guest takes less than twice the memory of the bare process.",
            Outcome.MIXED: "A guest takes at least twice the memory of the bare process in {share}.",
            Outcome.INCONCLUSIVE: "It is open whether a guest takes twice the memory of the bare process.",
        },
        missing="memory of a guest beside that of the bare process",
    ),
    Claim(
        key="C13",
        statement="Software in a container runs with no notable loss of performance.",
        stance_of=_supports_unless_higher,
        sentences={
            Outcome.SUPPORTED: "No container was notably slower than the bare process.",
            Outcome.REFUTED: "Every container was notably slower than the bare process.",
            Outcome.MIXED: "Containers kept the performance of the bare process in {share}.",
            Outcome.INCONCLUSIVE: "A notable loss can be neither shown nor excluded in every comparison{more}.",
        },
        missing="work done in a container beside that of the bare process",
    ),
)
"""Every claim that a run can speak to, in the order of the page."""
