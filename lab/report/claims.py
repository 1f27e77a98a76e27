"""The course's claims, each a function of the data that returns its verdict with the evidence; pure.

A claim is judged by pairs: one arm against another on one quantity. Each pair supports the claim, contradicts it, or
is open; the claim's outcome follows from all of them by one rule (``combine``), and every sentence is written from the
same pairs, so that it cannot say anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lab.bench.stats.verdict import FEWEST_BLOCKS
from lab.report.arms import EMULATION, ArmView, Isolation
from lab.report.page import Outcome, Verdict
from lab.report.wording import interval
from lab.report.wording import ratio as ratio_text

STATEMENTS: Mapping[str, str] = {
    "C5": "Full virtualization costs much: guests share nothing, though most of them run the same system.",
    "C7": "Containers start at once: there is no hardware to initialise and no system to boot.",
    "C8": "Containers need fewer resources: no guest system in memory, none set aside beforehand.",
    "C13": "Software in a container runs with no notable loss of performance.",
}

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
    the medians are finished text with units. ``more_blocks`` estimates what an open pair still needs; ``lines`` are
    the trials that the pair rests on.
    """

    quantity: str
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

    ``startup`` and ``memory`` hold guests against containers; ``guest_memory`` holds guests against the baseline;
    ``performance`` holds containers against the baseline, each as *time or cost*, so that higher is worse.
    ``notes`` are further findings by claim. ``absent`` are arms that this host could not give.
    """

    startup: tuple[Pair, ...] = ()
    memory: tuple[Pair, ...] = ()
    guest_memory: tuple[Pair, ...] = ()
    performance: tuple[Pair, ...] = ()
    notes: Mapping[str, tuple[str, ...]] | None = None
    absent: tuple[ArmView, ...] = ()


def stances(material: Material) -> tuple[tuple[str, Pair, Stance], ...]:
    """Return every pair of every claim with what it says, for the table of evidence."""
    return tuple(
        (claim, pair, stance_of(pair))
        for claim, pairs, stance_of in (
            ("C7", material.startup, _supports_if_higher),
            ("C8", material.memory, _supports_if_higher),
            ("C5", material.guest_memory, _supports_if_much),
            ("C13", material.performance, _supports_unless_higher),
        )
        for pair in pairs
    )


def judge(material: Material) -> tuple[Verdict, ...]:
    """Return the verdict on each claim that a run of this kind can speak to, in the order of the page."""
    return (c7(material), c8(material), c5(material), c13(material))


def c7(material: Material) -> Verdict:
    """Judge "containers start at once" by the time that guests need against containers."""
    return _verdict(
        "C7",
        material,
        material.startup,
        _supports_if_higher,
        {
            Outcome.SUPPORTED: "Every container was ready sooner than every guest.",
            Outcome.REFUTED: "No guest needed longer than the containers to be ready.",
            Outcome.MIXED: "Containers were ready sooner than guests in {share}, not in all.",
            Outcome.INCONCLUSIVE: "The start-up times cannot yet be told apart in every comparison{more}.",
        },
        missing="start-up of a container beside that of a guest",
    )


def c8(material: Material) -> Verdict:
    """Judge "containers need fewer resources" by every view of memory that containers and guests share."""
    return _verdict(
        "C8",
        material,
        material.memory,
        _supports_if_higher,
        {
            Outcome.SUPPORTED: "In every view of memory a guest takes more than a container.",
            Outcome.REFUTED: "In no view of memory does a guest take more than a container.",
            Outcome.MIXED: "A guest takes more memory than a container in {share}, not in all.",
            Outcome.INCONCLUSIVE: "The memory of guests and containers cannot yet be told apart in every view{more}.",
        },
        missing="memory of a container beside that of a guest",
    )


def c5(material: Material) -> Verdict:
    """Judge "full virtualization costs much" by a guest's memory on the host against the bare process's."""
    return _verdict(
        "C5",
        material,
        material.guest_memory,
        _supports_if_much,
        {
            Outcome.SUPPORTED: "A guest takes at least twice the memory of the bare process.",
            Outcome.REFUTED: "A guest takes less than twice the memory of the bare process.",
            Outcome.MIXED: "A guest takes at least twice the memory of the bare process in {share}, not in all.",
            Outcome.INCONCLUSIVE: "It is open whether a guest takes twice the memory of the bare process.",
        },
        missing="memory of a guest beside that of the bare process",
    )


def c13(material: Material) -> Verdict:
    """Judge "no notable loss of performance" by containers against the bare process on work done."""
    return _verdict(
        "C13",
        material,
        material.performance,
        _supports_unless_higher,
        {
            Outcome.SUPPORTED: "No container was notably slower than the bare process.",
            Outcome.REFUTED: "Every container was notably slower than the bare process.",
            Outcome.MIXED: "Containers kept the performance of the bare process in {share}, not in all.",
            Outcome.INCONCLUSIVE: "A notable loss can be neither shown nor excluded in every comparison{more}.",
        },
        missing="work done in a container beside that of the bare process",
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


def _verdict(
    claim: str,
    material: Material,
    pairs: Sequence[Pair],
    stance_of: Callable[[Pair], Stance],
    sentences: Mapping[Outcome, str],
    *,
    missing: str,
) -> Verdict:
    said = [stance_of(pair) for pair in pairs]
    outcome = combine(said)
    if outcome is Outcome.UNTESTABLE:
        return _untestable(claim, material, missing)
    telling = _telling(pairs, said, outcome)
    lead = sentences[outcome].format(share=_share(said), more=_more(pairs))
    sentence = " ".join(part for part in (lead, _example(telling), _range(pairs), _rider(claim, pairs)) if part)
    notes = (material.notes or {}).get(claim, ())
    return Verdict(
        claim=claim,
        statement=STATEMENTS[claim],
        outcome=outcome,
        sentence=sentence,
        evidence=(*_evidence(pairs, said), *notes),
        caveats=caveats(pairs, material.absent),
        indicative=any(arm.unfair for arm in _arms(pairs)),
    )


def _untestable(claim: str, material: Material, missing: str) -> Verdict:
    reasons = [absence(arm) for arm in material.absent]
    because = f" {' '.join(reasons)}" if reasons else ""
    return Verdict(
        claim=claim,
        statement=STATEMENTS[claim],
        outcome=Outcome.UNTESTABLE,
        sentence=f"This run has no {missing}.{because}",
        caveats=tuple(reasons),
    )


def absence(arm: ArmView) -> str:
    """Return the sentence on an arm that this host could not give."""
    reason = arm.reason.strip().rstrip(".") or "no reason was recorded"
    return f"{arm.label} cannot be measured here: {reason}."


def describe(pair: Pair, stance: Stance) -> str:
    """Return one pair as a line of evidence."""
    return (
        f"{pair.quantity}: {pair.subject.label} {pair.subject_median}, {pair.reference.label} {pair.reference_median}; "
        f"ratio {ratio_text(pair.ratio)} {interval(pair.low, pair.high)} over {pair.blocks} blocks: {stance.value} it."
        if stance is not Stance.OPEN
        else f"{pair.quantity}: {pair.subject.label} {pair.subject_median}, {pair.reference.label} "
        f"{pair.reference_median}; ratio {ratio_text(pair.ratio)} {interval(pair.low, pair.high)} over {pair.blocks} "
        "blocks: open."
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
    quantity = pair.quantity[0].upper() + pair.quantity[1:]
    return (
        f"{quantity}: {pair.subject.label} {pair.subject_median}, {pair.reference.label} {pair.reference_median}; "
        f"a ratio of {ratio_text(pair.ratio)} {interval(pair.low, pair.high)}."
    )


def _range(pairs: Sequence[Pair]) -> str:
    if len(pairs) == 1:
        return ""
    ratios = [pair.ratio for pair in pairs]
    ends = f"{ratio_text(min(ratios))} to {ratio_text(max(ratios))}"
    return f"Over all {len(pairs)} comparisons the ratio runs from {ends}."


def _rider(claim: str, pairs: Sequence[Pair]) -> str:
    """Say in the sentence itself that a guest's time is that of an emulator, where no other guest was there."""
    if claim != "C7" or not all(pair.subject.emulated for pair in pairs):
        return ""
    return f"The only guests here are {EMULATION}, which is slower than a hypervisor would be."


def _share(stances: Sequence[Stance]) -> str:
    return f"{sum(stance is Stance.SUPPORTS for stance in stances)} of {len(stances)} comparisons"


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
