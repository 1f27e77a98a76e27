"""Claims are functions of the data: every outcome can be reached, and no sentence says more than its numbers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.report import synthetic_runs as synthetic

from lab.bench.model import Better, Trial
from lab.report import claims
from lab.report.arms import EMULATION, ArmView, Isolation
from lab.report.claims import Finding, Material, Pair, Stance, combine
from lab.report.frame import evidence
from lab.report.material import material
from lab.report.measures import quantities
from lab.report.page import Outcome, Verdict

PROCESS = ArmView(name="process", isolation=Isolation.PROCESS)
CONTAINER = ArmView(name="container", isolation=Isolation.CONTAINER)
GUEST = ArmView(name="guest-b", isolation=Isolation.VM)
EMULATED = ArmView(name="guest-a", isolation=Isolation.VM, emulated=True)
GONE = ArmView(name="guest-b", isolation=Isolation.VM, available=False, reason="its guest does not boot")


@dataclass(frozen=True)
class Case:
    """A claim, between which arms its pairs are, and which ratios speak for and against it."""

    key: str
    subject: ArmView
    reference: ArmView
    supporting: float
    contradicting: float

    def pair(
        self, ratio: float, *, half_width: float = 1.01, subject: ArmView | None = None, metric: str = "a time"
    ) -> Pair:
        low, high = ratio / half_width, ratio * half_width
        found = Finding.HIGHER if low > 1.05 else Finding.LOWER if high < 0.95 else Finding.SAME
        if half_width > 2:
            found = Finding.OPEN
        return Pair(
            quantity="a quantity (startup)",
            metric=metric,
            better=Better.LOWER,
            subject=subject or self.subject,
            reference=self.reference,
            subject_median=f"{ratio * 100:.0f} units",
            reference_median="100 units",
            ratio=ratio,
            low=low,
            high=high,
            blocks=12,
            finding=found,
            more_blocks=40 if found is Finding.OPEN else 0,
            lines=(2, 3),
        )

    def open_pair(self) -> Pair:
        return self.pair(2.1, half_width=9.0)

    def verdict(self, *pairs: Pair, absent: Sequence[ArmView] = ()) -> Verdict:
        claim = next(claim for claim in claims.CLAIMS if claim.key == self.key)
        return claims.judge(claim, Material(pairs={self.key: pairs}, absent=tuple(absent)))


CLAIMS = {
    "C5": Case("C5", GUEST, PROCESS, 40.0, 1.5),
    "C7": Case("C7", GUEST, CONTAINER, 40.0, 0.5),
    "C8": Case("C8", GUEST, CONTAINER, 40.0, 0.5),
    "C13": Case("C13", CONTAINER, PROCESS, 1.0, 2.0),
}
each_claim = pytest.mark.parametrize("key", CLAIMS)


@each_claim
def test_a_claim_is_supported_when_every_pair_supports_it(key: str) -> None:
    claim = CLAIMS[key]
    found = claim.verdict(claim.pair(claim.supporting), claim.pair(claim.supporting))
    assert (found.claim, found.outcome) == (key, Outcome.SUPPORTED)


@each_claim
def test_a_claim_is_refuted_when_every_pair_contradicts_it(key: str) -> None:
    claim = CLAIMS[key]
    assert claim.verdict(claim.pair(claim.contradicting)).outcome is Outcome.REFUTED


@each_claim
def test_one_open_pair_keeps_a_claim_open_and_says_how_many_blocks_are_missing(key: str) -> None:
    claim = CLAIMS[key]
    found = claim.verdict(claim.pair(claim.supporting), claim.open_pair())
    assert found.outcome is Outcome.INCONCLUSIVE
    assert key == "C5" or "about 40 more blocks are needed" in found.sentence


@each_claim
def test_pairs_that_disagree_are_told_with_their_share_and_quote_the_contradicting_one(key: str) -> None:
    claim = CLAIMS[key]
    against = claim.pair(claim.contradicting)
    found = claim.verdict(claim.pair(claim.supporting), claim.pair(claim.supporting), against)
    assert found.outcome is Outcome.MIXED
    assert "2 of 3 comparisons" in found.sentence
    assert against.subject_median in found.figures[0]


@each_claim
def test_a_claim_without_pairs_cannot_be_tested_and_says_which_arm_is_missing_and_why(key: str) -> None:
    found = CLAIMS[key].verdict(absent=(GONE,))
    assert found.outcome is Outcome.UNTESTABLE
    assert "guest-b cannot be measured here: its guest does not boot." in found.sentence


@each_claim
@pytest.mark.parametrize("side", ["supporting", "contradicting"])
def test_a_verdict_quotes_the_medians_the_ratio_and_the_interval_of_a_pair(key: str, side: str) -> None:
    claim = CLAIMS[key]
    pair = claim.pair(getattr(claim, side))
    (example,) = claim.verdict(pair).figures
    assert f"{pair.subject.label} {pair.subject_median}, {pair.reference.label} {pair.reference_median}" in example
    ends = claims.interval(pair.low, pair.high)
    assert f"a ratio of {claims.ratio_text(pair.ratio)}, 95 % interval {ends}." in example


@each_claim
def test_a_verdict_gives_the_range_over_all_pairs(key: str) -> None:
    claim = CLAIMS[key]
    ratios = [claim.supporting, claim.supporting * 1.02, claim.supporting * 1.01]
    found = claim.verdict(*(claim.pair(ratio) for ratio in ratios))
    ends = f"{claims.ratio_text(min(ratios))} to {claims.ratio_text(max(ratios))}"
    assert found.figures[1:] == (f"Ratio of a time over 3 comparisons runs from {ends} (lower is better).",)


def test_a_ratio_of_times_and_a_ratio_of_rates_are_never_in_one_range() -> None:
    case = CLAIMS["C13"]
    times = [case.pair(1.0), case.pair(2.33)]
    rates = [replace(case.pair(ratio, metric="a rate"), better=Better.HIGHER) for ratio in (0.43, 1.02)]
    assert case.verdict(*times, *rates).figures[1:] == (
        "Ratio of a time over 2 comparisons runs from 1.00 to 2.33 (lower is better).",
        "Ratio of a rate over 2 comparisons runs from 0.43 to 1.02 (higher is better).",
    )


def test_the_share_of_a_mixed_verdict_counts_what_is_open_too() -> None:
    case = CLAIMS["C13"]
    found = case.verdict(case.pair(case.supporting), case.pair(case.contradicting), case.open_pair())
    assert "in 1 of 3 comparisons; 1 speaks against it and 1 is open." in found.sentence


def test_a_single_block_is_one_block() -> None:
    pair = replace(CLAIMS["C7"].pair(40.0), blocks=1)
    assert "over 1 block:" in claims.describe(pair, Stance.OPEN)


@each_claim
def test_a_single_no_on_the_fairness_card_makes_a_verdict_indicative_and_is_named(key: str) -> None:
    claim = CLAIMS[key]
    unfair = replace(claim.subject, fairness={"same kernel": "no: a kernel of its own", "same image": "yes"})
    fair = replace(claim.subject, fairness={"same kernel": "yes", "same image": "yes: one digest"})
    lowered = claim.verdict(claim.pair(claim.supporting, subject=unfair))
    assert lowered.indicative
    assert f"{unfair.name}: same kernel? No: a kernel of its own." in lowered.caveats
    assert not claim.verdict(claim.pair(claim.supporting, subject=fair)).indicative


@each_claim
def test_no_evidence_is_lost_when_there_are_more_pairs_than_a_verdict_quotes(key: str) -> None:
    claim = CLAIMS[key]
    found = claim.verdict(*(claim.pair(claim.supporting) for _ in range(9)), claim.pair(claim.contradicting))
    assert found.evidence[0].endswith("contradicts it.")
    assert found.evidence[-1] == "And 4 more comparisons, all of them support it: see the table of evidence."


@pytest.mark.parametrize("key", ["C5", "C7", "C8"])
@pytest.mark.parametrize("ratio", ["supporting", "contradicting"])
def test_emulated_guests_are_called_so_wherever_they_are_named(key: str, ratio: str) -> None:
    claim = CLAIMS[key]
    found = claim.verdict(
        claim.pair(getattr(claim, ratio), subject=EMULATED), absent=(replace(EMULATED, available=False),)
    )
    assert_emulation_is_named(found, "guest-a")
    assert any("not the cost of a hypervisor" in caveat for caveat in found.caveats)


def test_a_start_up_verdict_on_emulated_guests_alone_says_so_in_its_sentence() -> None:
    claim = CLAIMS["C7"]
    alone = claim.verdict(claim.pair(40.0, subject=EMULATED))
    beside = claim.verdict(claim.pair(40.0, subject=EMULATED), claim.pair(9.0))
    assert f"The only guests here are {EMULATION}" in alone.sentence
    assert "The only guests here" not in beside.sentence


@given(st.lists(st.sampled_from(list(Stance)), max_size=5))
def test_the_outcome_does_not_depend_on_the_order_of_the_pairs(stances: list[Stance]) -> None:
    assert len({combine(order) for order in itertools.permutations(stances)}) == 1


@given(st.lists(st.sampled_from(list(Stance)), min_size=1))
def test_only_unanimous_pairs_support_or_refute(stances: list[Stance]) -> None:
    outcome = combine(stances)
    assert (outcome is Outcome.SUPPORTED) == (set(stances) == {Stance.SUPPORTS})
    assert (outcome is Outcome.REFUTED) == (set(stances) == {Stance.CONTRADICTS})


# from records, through the statistics


def judged(arms: Sequence[synthetic.Synthetic], *, blocks: int = 12, disk: bool = False) -> dict[str, Verdict]:
    run = synthetic.run(arms, blocks=blocks, seed=7)
    trials: Sequence[Trial] = synthetic.trials(arms, blocks=blocks, seed=7, disk=disk)
    found = evidence("results.jsonl", run, synthetic.END, trials)
    return {verdict.claim: verdict for verdict in claims.judge_all(material(found, quantities(found)))}


def outcomes(verdicts: dict[str, Verdict]) -> dict[str, Outcome]:
    return {claim: verdict.outcome for claim, verdict in verdicts.items()}


def test_a_run_in_which_guests_are_slow_and_large_supports_every_claim() -> None:
    found = judged((synthetic.PROCESS, synthetic.CONTAINER, synthetic.EMULATED), disk=True)
    assert set(outcomes(found).values()) == {Outcome.SUPPORTED}
    for verdict in found.values():
        assert_emulation_is_named(verdict, "guest-a")
    assert found["C7"].indicative
    assert not found["C13"].indicative


def test_a_run_in_which_guests_are_quick_and_small_and_containers_slow_refutes_every_claim() -> None:
    guest = replace(synthetic.ACCELERATED, phases_ms={"spawned": 0.5, "ready": 0.2}, memory_mib=1.3)
    slow = replace(synthetic.CONTAINER, slowdown=2.0)
    found = judged((synthetic.PROCESS, slow, guest), disk=True)
    assert set(outcomes(found).values()) == {Outcome.REFUTED}
    assert found["C7"].sentence.startswith("No guest needed longer")
    assert found["C13"].sentence.startswith("Every container was notably slower")


def test_a_drop_of_available_memory_below_zero_leaves_the_other_views_to_be_judged() -> None:
    run = synthetic.run((synthetic.PROCESS, synthetic.CONTAINER, synthetic.EMULATED), blocks=12, seed=7)
    trials = synthetic.trials((synthetic.PROCESS, synthetic.CONTAINER, synthetic.EMULATED), blocks=12, seed=7)
    risen = [
        with_view(trial, "host_available_drop", 0.0) if trial.cell.arm == "container" else trial for trial in trials
    ]
    found = evidence("results.jsonl", run, synthetic.END, risen)
    verdict = next(v for v in claims.judge_all(material(found, quantities(found))) if v.claim == "C8")
    assert verdict.outcome is Outcome.SUPPORTED
    assert verdict.figures[-1].startswith("Not judged: memory, drop of the host's MemAvailable, idle")
    assert "In 12 of 48 readings it was zero or below" in verdict.figures[-1]
    assert not any("MemAvailable" in text for text in (verdict.sentence, *verdict.figures[:-1], *verdict.evidence))


def with_view(trial: Trial, view: str, value: float) -> Trial:
    samples = tuple(replace(s, value=value) if s.labels.get("view") == view else s for s in trial.samples)
    return replace(trial, samples=samples)


def test_a_run_of_too_few_blocks_concludes_nothing_where_an_interval_is_needed() -> None:
    found = outcomes(judged((synthetic.PROCESS, synthetic.CONTAINER, synthetic.EMULATED), blocks=2, disk=True))
    assert found == dict.fromkeys(("C7", "C8", "C5", "C13"), Outcome.INCONCLUSIVE)


def test_a_run_without_guests_and_containers_can_test_no_claim() -> None:
    found = judged((synthetic.PROCESS, synthetic.ABSENT))
    assert set(outcomes(found).values()) == {Outcome.UNTESTABLE}
    assert "/dev/kvm opens, but a stock Linux guest does not boot on it" in found["C7"].sentence


def test_a_claim_about_work_is_judged_without_any_guest() -> None:
    found = outcomes(judged((synthetic.PROCESS, synthetic.CONTAINER), disk=True))
    assert found["C13"] is Outcome.SUPPORTED
    assert found["C7"] is Outcome.UNTESTABLE


def assert_emulation_is_named(verdict: Verdict, name: str) -> None:
    """Every time the arm is named, what it is follows at once."""
    for text in (verdict.sentence, *verdict.figures, *verdict.evidence, *verdict.caveats):
        for hit in re.finditer(re.escape(name), text):
            after = text[hit.end() :]
            assert after.startswith((f" · {EMULATION}", f" is {EMULATION}")), text
