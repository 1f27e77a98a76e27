"""`lab bench`: list suites, run one, resume, show and export runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lab.bench.runs import find_run, run_ids
from lab.cli import output, own_session
from lab.cli.arguments import add_format, add_run, add_verb
from lab.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, SpecError, UnavailableError
from lab.paths import Paths

if TYPE_CHECKING:  # numpy and the backends take half a second; --help must not
    from lab.bench.interrupts import Interrupts
    from lab.bench.model import Suite
    from lab.bench.preparation import Prepared

EPILOG = """examples:
  lab bench list                              suites, workloads, targets and runs
  sudo lab bench run quick                    the quick comparison, in under four minutes
  sudo lab bench run startup --targets process,container,runc --blocks 10 --seed 7
  sudo lab bench resume latest                go on with what was interrupted
  lab bench show latest                       medians and ratios of a run
  lab bench export latest --format csv        its samples

RUN is a run's id, a prefix that only one has, its directory, or "latest"."""

_KINDS = ("suites", "workloads", "targets", "runs")
_MEASURING = ("run", "resume")
_EXPORTS = ("csv", "json", "pytest-benchmark")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs and their flags."""
    parser.epilog = EPILOG
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = add_verb(verbs, "list", "list suites, workloads, targets and runs", "lab bench list runs --format json")
    listing.add_argument("kind", nargs="?", choices=_KINDS, help="only these (default: all)")
    add_format(listing)
    _add_run_flags(add_verb(verbs, "run", "run a suite", "sudo lab bench run quick --targets process,container"))
    add_run(add_verb(verbs, "resume", "go on with an interrupted run", "sudo lab bench resume latest"))
    show = add_verb(verbs, "show", "show medians and ratios of a run", "lab bench show latest")
    add_run(show)
    add_format(show)
    export = add_verb(verbs, "export", "write a run in another form", "lab bench export latest --format csv >run.csv")
    add_run(export)
    export.add_argument("--format", choices=_EXPORTS, default="csv", help="the form (default: csv)")
    export.add_argument("--output", metavar="FILE", help="where to write (default: standard output)")


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", metavar="SUITE", help="a suite's name, or the path of a suite file")
    parser.add_argument("--targets", metavar="LIST", help="only these targets, with commas; the baseline is added")
    parser.add_argument("--blocks", metavar="N", type=int, help="measure exactly N blocks, whatever they show")
    parser.add_argument("--seed", metavar="S", type=int, help="draw the order from S (default: a new one)")
    parser.add_argument("--budget", metavar="TIME", help="stop before this much time is used, such as 3m")
    parser.add_argument("--output", metavar="DIR", help="make the run in DIR (default: in the lab's runs)")
    parser.add_argument("--dry-run", action="store_true", help="print the order of the first blocks, measure nothing")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Carry the verb out and return the exit code."""
    measures = arguments.verb in _MEASURING and not getattr(arguments, "dry_run", False)
    if measures and os.geteuid() == 0:  # others are refused in a moment
        code = own_session.go_on()
        if code is not None:
            return code
    return _VERBS[arguments.verb](arguments, paths)


def _list(arguments: argparse.Namespace, paths: Paths) -> int:
    wanted = (arguments.kind,) if arguments.kind else _KINDS
    tables = {kind: _LISTS[kind](paths) for kind in wanted}
    if arguments.format == "json":
        output.document(tables if len(wanted) > 1 else tables[wanted[0]])
        return EXIT_OK
    for number, kind in enumerate(wanted):
        if number:
            output.line()
        rows = tables[kind]
        output.listing(rows or [{kind: "(none)"}], columns=tuple(rows[0]) if rows else (kind,))
    return EXIT_OK


def _suites(paths: Paths) -> list[dict[str, str]]:
    del paths  # suites come with the lab
    from lab.bench import suite_file
    from lab.target.registry import NAMES

    suites = [suite_file.load(suite_file.find(name), NAMES) for name in suite_file.shipped()]
    return [
        {"suite": s.name, "workloads": ", ".join(use.key for use in s.workloads), "question": s.question}
        for s in suites
    ]


def _workloads(paths: Paths) -> list[dict[str, str]]:
    del paths  # workloads come with the lab
    from lab.bench.workloads.catalogue import WORKLOADS

    return [
        {
            "workload": workload.name,
            "what": workload.title,
            "parameters": ", ".join(f"{parameter.name}={parameter.default}" for parameter in workload.parameters),
        }
        for workload in WORKLOADS.values()
    ]


def _targets(paths: Paths) -> list[dict[str, str]]:
    del paths  # whether this host can is the doctor's to say
    from lab.target.registry import NAMES

    return [{"target": name} for name in NAMES]


def _runs(paths: Paths) -> list[dict[str, str]]:
    from lab.bench import records

    rows = []
    for name in run_ids(paths.runs):
        recording = records.read(os.path.join(paths.runs, name))
        ended = "not ended" if recording.end is None else recording.end.reason
        rows.append(
            {"run": name, "suite": recording.run.suite.name, "trials": str(len(recording.trials)), "end": ended}
        )
    return rows


def _run(arguments: argparse.Namespace, paths: Paths) -> int:
    from lab.bench import preparation
    from lab.bench.harness import CLOCK
    from lab.bench.interrupts import Interrupts

    suite = _suite(arguments)
    seed = preparation.new_seed() if arguments.seed is None else arguments.seed
    if arguments.dry_run:
        return _dry_run(suite, seed)
    _need_root()
    directory = arguments.output or preparation.new_directory(paths.runs, suite.name)
    if os.path.exists(directory):
        raise SpecError(f"{directory} exists already", hint="name a directory that does not, or resume the run in it")
    with Interrupts() as interrupts:
        progress = output.Progress()
        try:
            prepared = preparation.begin(
                suite, paths, seed=seed, directory=os.path.abspath(directory), clock=CLOCK, tell=progress.update
            )
        finally:
            progress.done()
        reason = _measure(prepared, interrupts, begins=True)
    return _conclude(prepared.directory, reason)


def _resume(arguments: argparse.Namespace, paths: Paths) -> int:
    from lab.bench import preparation, records
    from lab.bench.interrupts import Interrupts

    directory = find_run(paths.runs, arguments.run)
    recording = records.read(directory)
    if recording.end is not None and recording.end.reason != "interrupted":
        output.note(f"run {recording.run.id} is complete: it ended by {recording.end.reason}")
        return EXIT_OK
    _need_root()
    with Interrupts() as interrupts:
        progress = output.Progress()
        try:
            prepared = preparation.resume(recording.run, paths, directory=directory, tell=progress.update)
        finally:
            progress.done()
        reason = _measure(prepared, interrupts, begins=False)
    return _conclude(directory, reason)


def _measure(prepared: Prepared, interrupts: Interrupts, *, begins: bool) -> str:
    """Measure what is left and return why it stopped; all that the backends keep is gone then."""
    from lab.bench import records
    from lab.bench.harness import Harness

    path = os.path.join(prepared.directory, records.RESULTS)
    progress = output.Progress()
    try:
        earlier = None if begins else records.read(path)
        with records.Recorder(path, keep_bytes=0 if earlier is None else earlier.complete_bytes) as recorder:
            if earlier is None:
                recorder.append(prepared.run)
            _say_arms(prepared)
            return (
                Harness(prepared, recorder, tell=progress.update, interrupts=interrupts, earlier=earlier).run().reason
            )
    finally:
        progress.done()
        prepared.close()


def _say_arms(prepared: Prepared) -> None:
    for arm in prepared.run.arms:
        if not arm.available:
            output.note(f"{arm.name}: cannot be measured here: {arm.reason}")
    output.note(f"run {prepared.run.id}, seed {prepared.run.seed}, in {prepared.directory}")


def _conclude(directory: str, reason: str) -> int:
    name = os.path.basename(directory)
    if reason == "interrupted":
        output.error("interrupted; what was measured is kept", hint=f"sudo lab bench resume {name}")
        return EXIT_INTERRUPTED
    _table(directory)
    if reason == "given-up":
        output.error("nothing is left to measure: every target failed again and again", hint=f"lab bench export {name}")
        return EXIT_FAILURE
    output.note(f"stopped by: {reason}; report: lab report build {name}")
    return EXIT_OK


def _show(arguments: argparse.Namespace, paths: Paths) -> int:
    directory = find_run(paths.runs, arguments.run)
    _table(directory, output_format=arguments.format)
    return EXIT_OK


def _table(directory: str, *, output_format: str = "table") -> None:
    from lab.bench import records, summary

    recording = records.read(directory)
    columns = ("workload", "target", "median", "ratio", "interval", "verdict", "trials", "failed")
    output.listing(summary.rows(recording), columns=columns, output_format=output_format)
    for given_up in recording.given_up:
        output.note(f"{given_up.cell.key} was given up in block {given_up.block}: {given_up.reason}")


def _export(arguments: argparse.Namespace, paths: Paths) -> int:
    from lab.bench import export, records

    directory = find_run(paths.runs, arguments.run)
    text = export.export(records.read(directory), export.ExportFormat(arguments.format))
    if not arguments.output:
        sys.stdout.write(text)
        return EXIT_OK
    try:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SpecError(f"cannot write {arguments.output}: {error.strerror}") from error
    output.note(f"written: {arguments.output}")
    return EXIT_OK


def _suite(arguments: argparse.Namespace) -> Suite:
    from lab.bench import suite_file
    from lab.target.registry import NAMES

    suite = suite_file.load(suite_file.find(arguments.suite), NAMES)
    wanted: Sequence[str] = arguments.targets.split(",") if arguments.targets else ()
    arms = suite_file.select_arms(
        suite.arms, [name.strip() for name in wanted], (*NAMES, *(arm.name for arm in suite.definitions))
    )
    suite = replace(suite, arms=arms if suite.baseline in arms else (suite.baseline, *arms))
    if arguments.blocks is not None:
        if arguments.blocks < 1:
            raise SpecError(f"--blocks must be at least 1, not {arguments.blocks}")
        suite = replace(suite, min_blocks=arguments.blocks, max_blocks=arguments.blocks, target_half_width_ratio=0.0)
    return replace(suite, budget_ns=_budget(arguments, suite.budget_ns))


def _budget(arguments: argparse.Namespace, default_ns: int) -> int:
    from lab.units import NS_PER_S, parse_duration_ns

    if arguments.budget is None:
        # blocks that were asked for by number are not cut short by the suite's budget
        return 24 * 3600 * NS_PER_S if arguments.blocks is not None else default_ns
    try:
        return parse_duration_ns(arguments.budget)
    except ValueError as error:
        raise SpecError(f"--budget: {error}") from error


def _dry_run(suite: Suite, seed: int) -> int:
    from lab.bench import schedule

    plan = schedule.plan(suite, seed=seed, arms=suite.arms)
    output.line(f"suite {suite.name}, seed {seed}, order {plan.digest}, if every target can be measured")
    for block in plan.blocks[: suite.warmup_blocks + suite.min_blocks]:
        output.line(f"{block.kind} block {block.number}: " + " ".join(cell.key for cell in block.cells))
    return EXIT_OK


def _need_root() -> None:
    if os.geteuid() != 0:
        raise UnavailableError(
            "measuring needs root: for cgroups, mounts, network namespaces and guests", hint="sudo lab bench run …"
        )


_LISTS: dict[str, Callable[[Paths], list[dict[str, str]]]] = {
    "suites": _suites,
    "workloads": _workloads,
    "targets": _targets,
    "runs": _runs,
}
_VERBS: dict[str, Callable[[argparse.Namespace, Paths], int]] = {
    "list": _list,
    "run": _run,
    "resume": _resume,
    "show": _show,
    "export": _export,
}
