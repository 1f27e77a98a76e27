"""The only loop: for each block, for each cell, one trial; recorded at once, stopped by precision or budget.

The measuring clock is here, and handed down. Ctrl-C ends the trial that is going on, removes its target, and keeps
what was measured: the run can be resumed, in the same order.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

from lab.bench import host
from lab.bench.interrupts import Interrupts
from lab.bench.ledger import Ledger
from lab.bench.model import Cell, RunEnd, Trial, TrialKind, TrialStatus
from lab.bench.preparation import Prepared
from lab.bench.records import Recorder, Recording
from lab.bench.schedule import Block
from lab.bench.stats.stopping import StopReason, decide
from lab.bench.trial import Measurement, Place, utc_now
from lab.bench.workloads.catalogue import WORKLOADS
from lab.bench.workloads.protocol import Clock
from lab.linux.cgroup import layout as cgroup
from lab.target.protocol import Target, Traceable
from lab.units import NS_PER_S, format_duration_ns

CLOCK: Clock = time.monotonic_ns
"""The one clock of every number: the host's CLOCK_MONOTONIC."""

Tell = Callable[[str], None]

_CGROUP_GRACE_NS = 10 * NS_PER_S


class Harness:
    """Runs what is left of a prepared run."""

    def __init__(
        self,
        prepared: Prepared,
        recorder: Recorder,
        *,
        tell: Tell,
        interrupts: Interrupts,
        earlier: Recording | None = None,
        clock: Clock = CLOCK,
    ) -> None:
        """Take over a run; ``interrupts`` are in force, ``earlier`` is what sessions before this one recorded."""
        self._prepared = prepared
        self._recorder = recorder
        self._tell = tell
        self._clock = clock
        recorded = () if earlier is None else earlier.trials
        given_up = () if earlier is None else earlier.given_up
        self._ledger = Ledger(prepared.run, prepared.plan, recorded, given_up)
        self._elapsed_before_ns = 0 if earlier is None else earlier.elapsed_ns
        self._probe_cpu_ns = 0
        self._uses = {use.key: use for use in prepared.run.suite.workloads}
        self._interrupts = interrupts
        self._begun_ns = clock()

    def run(self) -> RunEnd:
        """Measure until the stop rule says so, and return the end record, which has been written.

        Raises:
            MeasurementError: a record could not be written; what was measured before is kept.
        """
        cpu_ns = time.process_time_ns()
        try:
            reason = self._until_stopped()
            with self._interrupts.held():
                return self._end(reason, time.process_time_ns() - cpu_ns)
        finally:
            with self._interrupts.held():
                _remove_parent_cgroup(self._prepared.run.id)

    def _until_stopped(self) -> StopReason:
        try:
            with self._interrupts.held():
                _end_orphans(self._prepared.run.id)
            return self._blocks()
        except KeyboardInterrupt:
            return StopReason.INTERRUPTED

    def _end(self, reason: StopReason, cpu_ns: int) -> RunEnd:
        end = RunEnd(
            reason=str(reason),
            ended_at=utc_now(),
            blocks=self._ledger.blocks_done,
            harness_cpu_ns=cpu_ns,
            sampler_cpu_ns=self._probe_cpu_ns,
            elapsed_ns=self._elapsed_ns(),
            readings=host.readings(),
        )
        self._recorder.append(end)
        return end

    def _blocks(self) -> StopReason:
        self._give_up()  # what an earlier session should have, had it not been killed
        for block in self._prepared.plan.blocks:
            reason = self._stop(block)
            if reason is not None:
                return reason
            for position, cell in self._ledger.due(block):
                self._trial(block, position, cell)
                self._give_up()
        return StopReason.BLOCKS

    def _give_up(self) -> None:
        for record in self._ledger.newly_hopeless(at=utc_now()):
            self._recorder.append(record)
            self._tell(f"{record.cell.key} is given up for the rest of this run: {record.reason}")

    def _stop(self, block: Block) -> StopReason | None:
        suite = self._prepared.run.suite
        if self._ledger.is_hopeless:
            return StopReason.GIVEN_UP
        # a resumed run may have a part of this block already: it is finished, budget or not
        if block.kind is TrialKind.WARMUP or self._ledger.is_begun(block):
            return None
        return decide(
            blocks_done=self._ledger.blocks_done,
            min_blocks=suite.min_blocks,
            max_blocks=suite.max_blocks,
            elapsed_ns=self._elapsed_ns(),
            next_block_ns=self._ledger.expected_ns(block.cells),
            budget_ns=suite.budget_ns,
            half_width_ratios=self._ledger.half_widths(),
            target_half_width_ratio=suite.target_half_width_ratio,
        )

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
            session=self._begun_ns,
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
            self._interrupts.deliver()  # one that was held back while what failed was made or removed
        except KeyboardInterrupt:
            self._append(measurement.record(TrialStatus.INTERRUPTED, error="interrupted by the user"), begun)
            raise
        with self._interrupts.held():
            self._append(trial, begun)
        self._probe_cpu_ns += measurement.probe_cpu_ns

    def _append(self, trial: Trial, begun_ns: int) -> None:
        timed = replace(trial, wall_ns=self._clock() - begun_ns, elapsed_ns=self._elapsed_ns())
        self._recorder.append(timed)
        self._ledger.enter(timed)

    def _keep_provenance(self, arm: str, target: Target) -> None:
        directory = os.path.join(self._prepared.directory, "provenance", arm)
        if os.path.isdir(directory) or not isinstance(target, Traceable):
            return
        os.makedirs(directory)
        for name, text in target.provenance().items():
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(text)

    def _elapsed_ns(self) -> int:
        return self._elapsed_before_ns + self._clock() - self._begun_ns

    def _progress(self, block: Block, position: int, cell: Cell) -> str:
        suite = self._prepared.run.suite
        kind = "warm-up block" if block.kind is TrialKind.WARMUP else "block"
        number = block.number if block.kind is TrialKind.WARMUP else block.number - suite.warmup_blocks
        of = suite.warmup_blocks if block.kind is TrialKind.WARMUP else suite.max_blocks
        left = self._ledger.left_ns(block, elapsed_ns=self._elapsed_ns())
        remaining = f", at most {format_duration_ns(left)} left" if left is not None else ""
        return f"{kind} {number + 1}/{of}, trial {position + 1}/{len(block.cells)}: {cell.key}{remaining}"


def _end_orphans(run_id: str) -> None:
    """Kill what a session of this run that was killed has left running: it would disturb every trial to come."""
    cgroup.kill(cgroup.detect(), f"lab/{run_id}", deadline_ns=CLOCK() + _CGROUP_GRACE_NS)
    _remove_parent_cgroup(run_id)


def _remove_parent_cgroup(run_id: str) -> None:
    cgroup.remove(cgroup.detect(), f"lab/{run_id}", deadline_ns=CLOCK() + _CGROUP_GRACE_NS)
