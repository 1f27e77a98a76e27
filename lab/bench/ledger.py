"""The trials of a run so far, and what follows from them: what is still to do, how long it takes, what is hopeless.

Pure, and nothing but the records goes in: a run that is resumed knows what it would know if it had never stopped.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence

from lab.bench.model import Cell, GivenUp, Primary, Run, Trial, TrialKind, TrialStatus
from lab.bench.schedule import Block, Schedule
from lab.bench.stats.primary import primary_values
from lab.bench.stats.ratio import log_ratios
from lab.bench.stats.verdict import estimate_ratio

FAILURES_IN_A_ROW = 3
"""After so many failures of one cell with no success between them it is not tried again in this run."""


class Ledger:
    """Keeps account of one run."""

    def __init__(
        self, run: Run, plan: Schedule, trials: Iterable[Trial] = (), given_up: Iterable[GivenUp] = ()
    ) -> None:
        """Enter what earlier sessions recorded; trials that were interrupted are still to do."""
        self._run = run
        self._plan = plan
        self._trials: list[Trial] = []
        self._done: set[tuple[int, int]] = set()
        self._walls_ns: dict[Cell, list[int]] = {}
        self._failures: dict[Cell, int] = {}
        self._given_up = {record.cell for record in given_up}
        for trial in trials:
            self.enter(trial)

    @property
    def trials(self) -> Sequence[Trial]:
        """The trials that came to an end, well or badly, in order."""
        return self._trials

    def enter(self, trial: Trial) -> None:
        """Take a trial into account."""
        if trial.status is TrialStatus.INTERRUPTED:
            return
        self._trials.append(trial)
        self._done.add((trial.block, trial.position))
        if trial.wall_ns:  # files of schema 1 do not have it
            self._walls_ns.setdefault(trial.cell, []).append(trial.wall_ns)
        failed = trial.status is TrialStatus.FAILED
        self._failures[trial.cell] = self._failures.get(trial.cell, 0) + 1 if failed else 0

    def newly_hopeless(self, *, at: str) -> tuple[GivenUp, ...]:
        """Return, once each, a record for every cell that has failed too often in a row; ``at`` is the time, in UTC."""
        cells = [cell for cell, count in self._failures.items() if count >= FAILURES_IN_A_ROW]
        found = tuple(self._hopeless(cell, at) for cell in cells if cell not in self._given_up)
        self._given_up.update(record.cell for record in found)
        return found

    def _hopeless(self, cell: Cell, at: str) -> GivenUp:
        last = next(trial for trial in reversed(self._trials) if trial.cell == cell)
        count = self._failures[cell]
        reason = f"it failed {count} times in a row, the last time because: {last.error}"
        return GivenUp(cell=cell, block=last.block, failures=count, reason=reason, at=at)

    def is_given_up(self, cell: Cell) -> bool:
        """Return whether a cell is not to be tried again."""
        return cell in self._given_up

    def due(self, block: Block) -> tuple[tuple[int, Cell], ...]:
        """Return what is still to do of a block: (position, cell), in its order."""
        return tuple(
            (position, cell)
            for position, cell in enumerate(block.cells)
            if (block.number, position) not in self._done and not self.is_given_up(cell)
        )

    def is_begun(self, block: Block) -> bool:
        """Return whether a part of a block has been done."""
        return any((block.number, position) in self._done for position in range(len(block.cells)))

    @property
    def is_hopeless(self) -> bool:
        """Whether every cell has been given up."""
        return all(self.is_given_up(cell) for cell in self._plan.blocks[0].cells)

    @property
    def blocks_done(self) -> int:
        """How many measured blocks have nothing left to do."""
        measured = (block for block in self._plan.blocks if block.kind is TrialKind.MEASURED)
        return sum(self.is_begun(block) and not self.due(block) for block in measured)

    def expected_ns(self, cells: Iterable[Cell]) -> int:
        """Return how long one trial of each cell takes, by the medians so far; cells not seen yet count nothing."""
        seen = (self._walls_ns.get(cell) for cell in cells if not self.is_given_up(cell))
        return sum(round(statistics.median(walls_ns)) for walls_ns in seen if walls_ns)

    def left_ns(self, block: Block, *, elapsed_ns: int) -> int | None:
        """Return how long the run goes on at most, from within ``block``; None until every cell has been seen."""
        if any(cell not in self._walls_ns and not self.is_given_up(cell) for cell in block.cells):
            return None
        this_block = self.expected_ns(cell for _, cell in self.due(block))
        blocks_left = len(self._plan.blocks) - block.number - 1
        all_blocks = this_block + blocks_left * self.expected_ns(block.cells)
        return max(this_block, min(all_blocks, self._run.suite.budget_ns - elapsed_ns))

    def half_widths(self) -> Iterator[float]:
        """Yield how well each primary ratio that can be had is known: half its interval's width as a share.

        Infinite where a ratio should be there but is not yet; a cell that has been given up, or whose baseline has,
        is absent. Each costs a bootstrap, up to a second with a hundred blocks.
        """
        baseline = self._run.suite.baseline
        cells = set(self._plan.blocks[0].cells)
        for primary in self._run.primary:
            base = Cell(workload=primary.workload, arm=baseline)
            for arm in (name for name in self._run.suite.arms if name != baseline):
                cell = Cell(workload=primary.workload, arm=arm)
                if cell in cells and not self.is_given_up(cell) and not self.is_given_up(base):
                    yield self._half_width(primary, arm)

    def _half_width(self, primary: Primary, arm: str) -> float:
        base = primary_values(self._trials, primary, self._run.suite.baseline)
        logs = log_ratios(primary_values(self._trials, primary, arm), base)
        return estimate_ratio(logs).half_width_ratio if logs else math.inf
