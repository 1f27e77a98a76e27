"""What an arm is called on a page, derived from the facts that its backend stated; no backend is named here.

An arm whose accelerator is TCG is called software emulation wherever its name stands: its numbers are the cost of
emulating a processor, never the cost of a hypervisor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lab.bench.model import Arm, Run

EMULATION = "software emulation (TCG)"
TWIN_SUFFIX = "+twin"


class Isolation(StrEnum):
    """The kind of wall around the workload, as the claims speak of it."""

    PROCESS = "process"
    CONTAINER = "container"
    VM = "vm"

    @classmethod
    def of(cls, fact: str) -> Isolation:
        """Return the kind that a backend's fact "isolation" stands for; unknown words mean a kind of container."""
        if fact in {"process", "none", "chroot"}:
            return cls.PROCESS
        return cls.VM if fact in {"vm", "guest", "domain"} else cls.CONTAINER


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmView:
    """One arm as the page shows it.

    ``unfair`` are the fairness questions answered with no, with the reason; ``nested`` says that a guest hosts it.
    """

    name: str
    isolation: Isolation
    emulated: bool = False
    nested: bool = False
    available: bool = True
    reason: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    fairness: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The arm's name, followed by "software emulation (TCG)" where it is that."""
        return f"{self.name} · {EMULATION}" if self.emulated else self.name

    @property
    def chart_label(self) -> str:
        """The same in two lines, for the margin of a chart."""
        return f"{self.name}\n{EMULATION}" if self.emulated else self.name

    @property
    def unfair(self) -> tuple[tuple[str, str], ...]:
        """The fairness questions answered with no, each with its reason."""
        return tuple((question, answer_reason(text)) for question, text in self.fairness.items() if not is_yes(text))


def is_yes(answer: str) -> bool:
    """Return whether a fairness answer is a yes ("yes", "yes: both on ext4")."""
    return answer.strip().lower().startswith("yes")


def answer_reason(answer: str) -> str:
    """Return what follows the yes or no of a fairness answer, "" when nothing does."""
    head, colon, rest = answer.partition(":")
    return rest.strip() if colon else "" if head.strip().lower() in {"yes", "no"} else answer.strip()


def view(arm: Arm) -> ArmView:
    """Return how the page shows ``arm``."""
    facts = dict(arm.facts)
    return ArmView(
        name=arm.name,
        isolation=Isolation.of(facts.get("isolation", "")),
        emulated=facts.get("accelerator", "").lower() == "tcg",
        nested=facts.get("nested", "").lower() in {"yes", "true", "1"},
        available=arm.available,
        reason=arm.reason,
        facts=facts,
        fairness=dict(arm.fairness),
    )


def views(run: Run) -> dict[str, ArmView]:
    """Return every arm of the run by name, absent ones included, in the order of the run."""
    return {arm.name: view(arm) for arm in run.arms}


def series_key(arm: str, *, twin: bool) -> str:
    """Return the key of one line of data: the arm, or the A/A twin of it."""
    return arm + TWIN_SUFFIX if twin else arm


def series_label(series: str, arms: Mapping[str, ArmView]) -> str:
    """Return the page's name of a series: the arm's label, or "process (A/A twin)"."""
    name = series.removesuffix(TWIN_SUFFIX)
    label = arms[name].label if name in arms else name
    return f"{label} (A/A twin)" if series.endswith(TWIN_SUFFIX) else label


def chart_label(series: str, arms: Mapping[str, ArmView]) -> str:
    """Return a series' name for the margin of a chart."""
    name = series.removesuffix(TWIN_SUFFIX)
    label = arms[name].chart_label if name in arms else name
    return f"{label}, A/A twin" if series.endswith(TWIN_SUFFIX) else label
