"""The only loop: for each block, for each cell, one trial; recorded at once, stopped by precision or budget.

The measuring clock is here, and handed down. Ctrl-C ends the trial that is going on, removes its target, and keeps
what was measured: the run can be resumed, in the same order.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any  # what signal.signal returns has no narrower type

from lab.bench import host
from lab.bench.model import Cell, RunEnd, Trial, TrialKind, TrialStatus
from lab.bench.preparation import Prepared
from lab.bench.records import Recorder
from lab.bench.schedule import Block
from lab.bench.stats.primary import primary_values
from lab.bench.stats.ratio import log_ratios
from lab.bench.stats.stopping import StopReason, decide
from lab.bench.stats.verdict import estimate_ratio
from lab.bench.trial import Measurement, Place, utc_now
from lab.bench.workloads.catalogue import WORKLOADS
from lab.bench.workloads.protocol import Clock
from lab.linux.cgroup import layout as cgroup
from lab.target.protocol import Target, Traceable
from lab.units import NS_PER_S, format_duration_ns

CLOCK: Clock = time.monotonic_ns
"""The one clock of every number: the host's CLOCK_MONOTONIC."""

Tell = Callable[[str], None]


class Harness:
    """Runs what is left of a prepared run."""

    def __init__(
        self,
        prepared: Prepared,
        recorder: Recorder,
        *,
        tell: Tell,
        done: Sequence[Trial] = (),
        elapsed_before_ns: int = 0,
        clock: Clock = CLOCK,
    ) -> None:
        """Take over a run; ``done`` are the trials of earlier sessions, which took ``elapsed_before_ns``."""
        self._prepared = prepared
        self._recorder = recorder
        self._tell = tell
        self._clock = clock
        self._trials = [trial for trial in done if trial.status is not TrialStatus.INTERRUPTED]
        self._elapsed_before_ns = elapsed_before_ns
        self._durations: dict[str, list[int]] = {}
        self._probe_cpu_ns = 0
        self._uses = {use.key: use for use in prepared.run.suite.workloads}
        self._interrupts = Interrupts()
        self._begun_ns = clock()

    def run(self) -> RunEnd:
        """Measure until the stop rule says so, and return the end record, which has been written.

        Raises:
            MeasurementError: a record could not be written; what was measured before is kept.
        """
        cpu_ns = time.process_time_ns()
        with self._interrupts:  # until the end is written: a second Ctrl-C must not cost the clean-up
            try:
                reason = self._blocks()
            except KeyboardInterrupt:
                reason = StopReason.INTERRUPTED
            finally:
                _remove_parent_cgroup(self._prepared.run.id)
            return self._end(reason, time.process_time_ns() - cpu_ns)

    def _end(self, reason: StopReason, cpu_ns: int) -> RunEnd:
        end = RunEnd(
            reason=str(reason),
            ended_at=utc_now(),
            blocks=self._blocks_done(),
            harness_cpu_ns=cpu_ns,
            sampler_cpu_ns=self._probe_cpu_ns,
            elapsed_ns=self._elapsed_ns(),
            readings=host.readings(),
        )
        self._recorder.append(end)
        return end

    def _blocks(self) -> StopReason:
        done = {(trial.block, trial.position) for trial in self._trials}
        for block in self._prepared.plan.blocks:
            reason = self._stop(block)
            if reason is not None:
                return reason
            for position, cell in enumerate(block.cells):
                if (block.number, position) not in done:
                    self._trial(block, position, cell)
        return StopReason.BLOCKS

    def _stop(self, block: Block) -> StopReason | None:
        suite = self._prepared.run.suite
        if block.kind is TrialKind.WARMUP or self._begun(block):
            return None
        blocks_done = self._blocks_done()
        return decide(
            blocks_done=blocks_done,
            min_blocks=suite.min_blocks,
            max_blocks=suite.max_blocks,
            elapsed_ns=self._elapsed_ns(),
            next_block_ns=self._expected_ns(block.cells),
            budget_ns=suite.budget_ns,
            # the bootstrap costs CPU time between trials: not asked for while it cannot matter
            half_width_ratios=self._half_widths() if blocks_done >= suite.min_blocks else (),
            target_half_width_ratio=suite.target_half_width_ratio,
        )

    def _begun(self, block: Block) -> bool:
        """Return whether a resumed run has a part of this block already: it is finished, budget or not."""
        return any(trial.block == block.number for trial in self._trials)

    def _trial(self, block: Block, position: int, cell: Cell) -> None:
        self._tell(self._progress(block, position, cell))
        begun = self._clock()
        use = self._uses[cell.workload]
        place = Place(
            cell=cell,
            kind=block.kind,
            block=block.number,
            position=position,
            number=block.number * len(block.cells) + position,
            run_id=self._prepared.run.id,
            use=use,
            workload=WORKLOADS[use.workload],
            backend=self._prepared.backends[cell.arm],
            image=self._prepared.run.images[use.image],
            directory=self._prepared.directory,
        )
        measurement = Measurement(
            place, self._clock, lambda target: self._keep_provenance(cell.arm, target), self._interrupts.held
        )
        try:
            trial = measurement.run()
        except KeyboardInterrupt:
            self._recorder.append(measurement.record(TrialStatus.INTERRUPTED, error="interrupted by the user"))
            raise
        self._recorder.append(trial)
        self._trials.append(trial)
        self._probe_cpu_ns += measurement.probe_cpu_ns
        self._durations.setdefault(cell.key, []).append(self._clock() - begun)

    def _keep_provenance(self, arm: str, target: Target) -> None:
        directory = os.path.join(self._prepared.directory, "provenance", arm)
        if os.path.isdir(directory) or not isinstance(target, Traceable):
            return
        os.makedirs(directory)
        for name, text in target.provenance().items():
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(text)

    def _blocks_done(self) -> int:
        cells = len(self._prepared.plan.blocks[0].cells)
        measured = [trial.block for trial in self._trials if trial.kind is TrialKind.MEASURED]
        return sum(measured.count(block) == cells for block in set(measured))

    def _elapsed_ns(self) -> int:
        return self._elapsed_before_ns + self._clock() - self._begun_ns

    def _half_widths(self) -> list[float]:
        run = self._prepared.run
        arms = [arm.name for arm in run.arms if arm.available and arm.name != run.suite.baseline]
        found = []
        for primary in run.primary:
            base = primary_values(self._trials, primary, run.suite.baseline)
            for arm in arms:
                logs = log_ratios(primary_values(self._trials, primary, arm), base)
                if logs:
                    found.append(estimate_ratio(logs).half_width_ratio)
        return found

    # progress

    def _progress(self, block: Block, position: int, cell: Cell) -> str:
        suite = self._prepared.run.suite
        kind = "warm-up block" if block.kind is TrialKind.WARMUP else "block"
        number = block.number if block.kind is TrialKind.WARMUP else block.number - suite.warmup_blocks
        of = suite.warmup_blocks if block.kind is TrialKind.WARMUP else suite.max_blocks
        left = self._time_left_ns(block, position)
        remaining = f", at most {format_duration_ns(left)} left" if left is not None else ""
        return f"{kind} {number + 1}/{of}, trial {position + 1}/{len(block.cells)}: {cell.key}{remaining}"

    def _time_left_ns(self, block: Block, position: int) -> int | None:
        """Return what is left at most, by the times seen so far; None until every cell has been seen."""
        suite = self._prepared.run.suite
        if any(cell.key not in self._durations for cell in block.cells):
            return None
        this_block = self._expected_ns(block.cells[position:])
        blocks_left = suite.warmup_blocks + suite.max_blocks - block.number - 1
        all_blocks = this_block + blocks_left * self._expected_ns(block.cells)
        return max(this_block, min(all_blocks, suite.budget_ns - self._elapsed_ns()))

    def _expected_ns(self, cells: Sequence[Cell]) -> int:
        seen = (self._durations.get(cell.key) for cell in cells)
        return sum(round(statistics.median(durations)) for durations in seen if durations)


class Interrupts:
    """Turns the first SIGINT or SIGTERM into KeyboardInterrupt, not within ``held`` blocks; later ones do nothing."""

    def __init__(self) -> None:
        """Change nothing yet."""
        self._held = False
        self._pending = False
        self._raised = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        self._previous = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._raised:
            return
        if self._held:
            self._pending = True
            return
        self._raised = True
        raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let an interruption wait until the end of the block, which makes or removes something."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._pending:
            self._pending, self._raised = False, True
            raise KeyboardInterrupt


def _remove_parent_cgroup(run_id: str) -> None:
    layout = cgroup.detect()
    cgroup.remove(layout, f"lab/{run_id}", deadline_ns=CLOCK() + 10 * NS_PER_S)
