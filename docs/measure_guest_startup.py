"""Write the tables of docs/explanation/guest-startup.md from measurements, so that no number in them is typed.

sudo .venv/bin/lab bench run guest-startup
.venv/bin/python docs/measure_guest_startup.py RUN         the tables of start-ups, from that run's directory
sudo .venv/bin/python docs/measure_guest_startup.py --floor 9   the table of the VMM floor, measured now
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lab.bench import records
from lab.bench.model import Trial, TrialKind, TrialStatus
from lab.bench.stats.ratio import log_ratios
from lab.bench.stats.verdict import estimate_ratio
from lab.paths import Paths
from lab.vm import floor
from lab.vm.capabilities import kvm_opens
from lab.vm.domain_spec import Accelerator, MachineType
from lab.vm.platform import prepare

PAGE = Path(__file__).resolve().parent / "explanation/guest-startup.md"
NS_PER_MS = 1_000_000
WORKLOAD = "startup"
PLAIN = "vm-tcg"
WHAT = {
    "bzimage": "a bzImage, which unpacks itself, instead of vmlinux",
    "q35": "board q35 with qboot instead of microvm",
    "q35-seabios": "board q35 with SeaBIOS",
    "pc": "board pc with qboot",
    "generic-kernel": "Debian's generic kernel",
    "self-tests": "without `cryptomgr.notests=1`",
    "initcalls": "without `initcall_blacklist=…`",
    "messages": "without `quiet`",
    "calibration": "on q35, without `tsc_early_khz= tsc= lpj= no_timer_check` (compare with q35)",
    "smp-patching": "without `noreplace-smp`",
    "devices": "without `8250.nr_uarts=1 i8042.…`",
    "grace-periods": "without `rcupdate.rcu_expedited=1`",
    "entropy": "without `random.trust_cpu=on`",
    "security": "without `audit=0 lsm= ipv6.disable=1`",
    "erofs": "root on erofs, covered by an overlay",
    "squashfs": "root on squashfs, covered by an overlay",
    "virtiofs": "root by virtiofs (on q35)",
}
PHASES = (
    ("libvirt, or ours, before QEMU", "requested", "spawned"),
    ("QEMU's start, and libvirt's questions to it", "spawned", "environment"),
    ("firmware", "environment", "kernel"),
    ("kernel", "kernel", "userspace"),
    ("init, root, the payload's first byte", "userspace", "ready"),
)


def spans(trials: Iterable[Trial], arm: str, first: str, last: str, workload: str = WORKLOAD) -> dict[int, float]:
    """Return the time between two marks [ns] by block, of the measured trials that succeeded."""
    return {
        trial.block: trial.marks_ns[last] - trial.marks_ns[first]
        for trial in _measured(trials, arm, workload)
        if first in trial.marks_ns and last in trial.marks_ns
    }


def _measured(trials: Iterable[Trial], arm: str, workload: str) -> Iterator[Trial]:
    for trial in trials:
        wanted = (trial.cell.arm, trial.cell.workload, trial.cell.twin) == (arm, workload, False)
        if wanted and (trial.kind, trial.status) == (TrialKind.MEASURED, TrialStatus.OK):
            yield trial


def cpu_times(trials: Iterable[Trial], arm: str) -> dict[int, float]:
    """Return the CPU time of a start [ns] by block, whoever spent it: it hardly depends on what else the host does."""
    return {
        trial.block: sample.value
        for trial in _measured(trials, arm, WORKLOAD)
        for sample in trial.samples
        if sample.metric == "startup_cpu"
    }


def milliseconds(values: Mapping[int, float]) -> str:
    """Return the median of times, in ms."""
    return f"{statistics.median(values.values()) / NS_PER_MS:.0f}" if values else "-"


def phases(trials: Sequence[Trial]) -> list[str]:
    """Return the table of phases of the three ways to start a guest, and of their sum for the service."""
    arms = [arm for arm in ("qemu-tcg", PLAIN, "vm-tcg-clone") if cpu_times(trials, arm)]
    lines = [f"| median, ms | {' | '.join(arms)} |", "| --- |" + " --- |" * len(arms)]
    for title, first, last in PHASES:
        cells = (milliseconds(spans(trials, arm, first, last)) for arm in arms)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    for title, workload in (("request to ready", WORKLOAD), ("the same with nginx, to its first answer", "service")):
        cells = (milliseconds(spans(trials, arm, "requested", "ready", workload)) for arm in arms)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines.append(f"| CPU time of the start | {' | '.join(milliseconds(cpu_times(trials, arm)) for arm in arms)} |")
    return lines


def pairs(count: int) -> list[str]:
    """Start Linux ``count`` times by libvirt and by QEMU's command line in turn, and return what libvirt adds."""
    host = prepare(Paths.default())
    starts: dict[bool, dict[int, floor.Floor]] = {True: {}, False: {}}
    for number in range(count):
        for direct in random.sample((True, False), 2):
            starts[direct][number] = floor.measure(
                host, Accelerator.TCG, host.machine_for(1), direct=direct, linux=True
            )
    ours, theirs = ({number: each.vmm_ns for number, each in starts[direct].items()} for direct in (False, True))
    ratio = estimate_ratio(log_ratios(ours, theirs))
    before = {number: each.manager_ns for number, each in starts[False].items()}
    return [
        f"From QEMU's start to the first byte of userspace, libvirt's guest takes {ratio.ratio:.3f} times as long",
        "as the same one by QEMU's command line",
        f"(95 % interval {ratio.low:.3f} to {ratio.high:.3f}, {count} pairs, one after the other;",
        f"medians {milliseconds(ours)} and {milliseconds(theirs)} ms,",
        f"shortest {shortest(ours)} and {shortest(theirs)} ms).",
        f"Before QEMU's start libvirt takes {milliseconds(before)} ms.",
    ]


def shortest(values: Mapping[int, float]) -> str:
    """Return the shortest of times, in ms: what the host's other work has disturbed least."""
    return f"{min(values.values()) / NS_PER_MS:.0f}"


def tunings(trials: Sequence[Trial]) -> list[str]:
    """Return the table of what each choice costs or buys against the plain guest: in time, and in CPU time."""
    lines = [
        "| guest | request to ready, ms | CPU time, ms | CPU time against the plain one |",
        "| --- | --- | --- | --- |",
    ]
    for arm, what in ((PLAIN, "plain: microvm, vmlinux, all options, ext4 on qcow2"), *WHAT.items()):
        wall, spent = spans(trials, arm, "requested", "ready"), cpu_times(trials, arm)
        if len(spent) < 2:
            continue
        ratio = estimate_ratio(log_ratios(spent, cpu_times(trials, PLAIN)))
        against = "" if arm == PLAIN else f"× {ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
        lines.append(f"| {what} | {milliseconds(wall)} | {milliseconds(spent)} | {against} |")
    return lines


def floors(count: int) -> list[str]:
    """Measure the VMM floor ``count`` times by each way, in a random order, and return the table."""
    host = prepare(Paths.default())
    accelerators = [Accelerator.TCG, *([Accelerator.KVM] if kvm_opens().works else [])]
    cells = [(a, m, d) for a in accelerators for m in MachineType for d in (True, False)]
    found: dict[tuple[Accelerator, MachineType, bool], list[floor.Floor]] = {cell: [] for cell in cells}
    for _ in range(count):
        for cell in random.sample(cells, len(cells)):
            accelerator, machine, direct = cell
            found[cell].append(floor.measure(host, accelerator, machine, direct=direct))
    lines = [
        f"| median of {count}, ms | QEMU alone | libvirt: before QEMU | libvirt: QEMU to the first byte |",
        "| --- | --- | --- | --- |",
    ]
    for accelerator in accelerators:
        for machine in MachineType:
            alone = [each.vmm_ns for each in found[accelerator, machine, True]]
            managed = found[accelerator, machine, False]
            values = (alone, [each.manager_ns for each in managed], [each.vmm_ns for each in managed])
            row = " | ".join(f"{statistics.median(group) / NS_PER_MS:.0f}" for group in values)
            lines.append(f"| {accelerator}, {machine} | {row} |")
    return lines


def source(recording: records.Recording) -> str:
    """Return where numbers come from."""
    found = recording.run.dimensions
    load = recording.run.readings.get("load_1m", "unknown")
    run = f"Run {recording.run.id} of {recording.run.started_at[:10]}, commit {recording.run.commit[:8]}"
    return f"{run}: {found['cpus']} processors ({found['cpu_model']}), load {load} at its beginning."


def write(name: str, lines: Sequence[str]) -> None:
    """Replace what stands between the markers ``name`` on the page."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    PAGE.write_text("".join((before, begin, "\n".join(lines), "\n", end, after)), encoding="utf-8")


def main() -> None:
    """Write the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tunings", metavar="RUN")
    parser.add_argument("--phases", metavar="RUN")
    parser.add_argument("--pairs", type=int, metavar="N", default=0)
    parser.add_argument("--floor", type=int, metavar="N", default=0)
    arguments = parser.parse_args()
    if arguments.phases:
        recording = records.read(str(Path(arguments.phases) / records.RESULTS))
        write("phases", [*phases(recording.trials), "", source(recording)])
    if arguments.tunings:
        recording = records.read(str(Path(arguments.tunings) / records.RESULTS))
        write("tunings", [*tunings(recording.trials), "", source(recording)])
    if arguments.pairs:
        write("pairs", pairs(arguments.pairs))
    if arguments.floor:
        write("floor", floors(arguments.floor))


if __name__ == "__main__":
    main()
