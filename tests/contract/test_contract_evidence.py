"""What every way of isolating promises, told by the kernel's counters, the peers' own lists and libvirt's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest
from contract.places import LIMITS, MIB, SHELL, Provision, eventually, shell

from lab.bench import fairness
from lab.container.image.store import ImageStore
from lab.container.storage import snapshots
from lab.errors import TargetError, TargetTimeout
from lab.linux import command
from lab.linux.cgroup import layout as cgroups
from lab.paths import Paths
from lab.target.backends.domain import DomainTarget, Launcher
from lab.target.backends.engine import EngineTarget
from lab.target.backends.engine_cli import CliTarget
from lab.target.backends.oci_runtime import OciTarget
from lab.target.backends.process import ProcessTarget
from lab.target.protocol import Backend, Target, Traceable
from lab.target.spec import Command, Limits, NetworkMode

pytestmark = pytest.mark.root

_PIDS = 48
_FORK = "i=0; while [ $i -lt 96 ]; do /bin/busybox sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done; echo all"
_DEVOUR = "exec /bin/busybox tail /dev/zero"  # keeps all of the one line that never ends


def test_the_number_of_tasks_is_limited_or_the_fairness_card_says_no(backend: Backend, provision: Provision) -> None:
    facts = dict(backend.check().facts)
    if "number of tasks is not limited" in facts.get("limits", ""):
        assert fairness.card(facts, {})["same limits"].startswith("no: ")
        return
    target = provision(limits=Limits(vcpus=1, memory_bytes=192 * MIB, pids=_PIDS))
    target.start()
    try:
        done = target.exec(Command(argv=(*SHELL, _FORK)))
    except TargetError:
        assert _has_own_kernel(facts)  # which cannot do without a task of the host, and ends
        assert _host_says(target, "fork rejected by pids controller")
        return
    assert (done.exit_code != 0, b"all" in done.stdout) == (True, False)
    assert _counter(target, "pids.events", "max") > 0
    assert _counter(target, "pids.current", "") <= _PIDS


def test_who_takes_too_much_memory_dies_by_the_kernels_own_word(backend: Backend, started: Target) -> None:
    killed = _oom_kills(started)
    try:
        assert started.exec(Command(argv=(*SHELL, _DEVOUR))).exit_code == 137
    except TargetError:
        assert _has_own_kernel(dict(backend.check().facts))  # which is a process of the host, and the largest
        assert _host_says(started, "oom-kill:")
        return
    assert _oom_kills(started) > killed


def _has_own_kernel(facts: dict[str, str]) -> bool:
    return facts["isolation"] in ("vm", "kernel in user space")


def _host_says(target: Target, words: str) -> bool:
    """Return whether the host's kernel has said this of a cgroup of the target, which may be gone since."""
    lines = command.run(("dmesg",)).text.splitlines()
    return any(words in line and target.spec.name in line for line in lines)


def _oom_kills(target: Target) -> int:
    """Count kills for want of memory: in the target's cgroup, or in the log of the guest's kernel."""
    if isinstance(target, DomainTarget):
        return shell(target, "/bin/busybox dmesg").count("Out of memory: Killed process")
    return _counter(target, "memory.oom_control", "oom_kill") + _counter(target, "memory.events", "oom_kill")


def _counter(target: Target, file: str, key: str) -> int:
    """Return the sum of a counter over the target's cgroups; 0 where the layout has no such file."""
    paths = (os.path.join(directory.path, file) for directory in target.footprint().cgroups)
    return sum(_read_counter(path, key) for path in sorted(set(paths)) if os.path.exists(path))


def _read_counter(path: str, key: str) -> int:
    with open(path, encoding="ascii") as content:
        rows = (line.split() for line in content.read().splitlines())
        return next(int(row[-1]) for row in rows if (row[0] == key if key else len(row) == 1))


def test_the_engines_image_is_ours_by_the_digest_of_its_configuration(provision: Provision, paths: Paths) -> None:
    target = provision()
    if not isinstance(target, CliTarget):
        pytest.skip("this arm has no image store of its own")
    ours = ImageStore.open(paths).resolve(target.spec.image).config_digest
    inspected = str(target._cli.inspect(target.spec.name)["Image"])
    assert inspected.removeprefix("sha256:") == ours.removeprefix("sha256:")


def test_nothing_is_left_in_the_own_lists_of_whoever_ran_it(provision: Provision, paths: Paths) -> None:
    namespaces = _network_namespaces()
    target = provision(network=NetworkMode.BRIDGE)
    target.start()
    known = _own_list(target)
    assert any(target.spec.name in entry for entry in known())
    target.destroy()
    assert not [entry for entry in known() if target.spec.name in entry]
    named = os.path.join(paths.run, "netns")
    assert not os.path.isdir(named) or target.spec.name not in os.listdir(named)
    assert eventually(lambda: _network_namespaces() <= namespaces)


def _own_list(target: Target) -> Callable[[], list[str]]:
    """Return what asks whoever runs the target for everything that it knows, stopped or running."""
    match target:
        case CliTarget():
            return lambda: target._cli.require("list", "ps", "--all", "--format", "{{.Names}}").splitlines()
        case OciTarget():
            argv = (target._program.name, f"--root={target._program.root}", "list", "--quiet")
            return lambda: command.run(argv).text.splitlines()
        case EngineTarget():
            return lambda: [state.id for state in target._engine.list()]
        case ProcessTarget():
            return lambda: os.listdir(os.path.dirname(target._root.path))
        case DomainTarget() if target._launcher is not Launcher.LIBVIRT:
            return _command_lines
        case DomainTarget():
            handle = target._host.connection.handle
            return lambda: [domain.name() for domain in handle.listAllDomains()]
    raise AssertionError(f"say here how {type(target).__name__} lists what it runs")


def _command_lines() -> list[str]:
    lines = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", errors="replace") as file:
            lines.append(file.read())
    return lines


def _network_namespaces() -> set[int]:
    return set(_inodes("net"))


def _inodes(kind: str) -> Iterator[int]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield os.stat(f"/proc/{pid}/ns/{kind}").st_ino
        except OSError:
            continue  # it ended while we looked


def test_a_target_shows_the_documents_that_it_was_started_from(started: Target) -> None:
    if isinstance(started, ProcessTarget):
        assert not isinstance(started, Traceable)  # nothing stands between its plan and the kernel
        return
    assert isinstance(started, Traceable)
    documents = started.provenance()
    assert all(started.spec.name in text for text in documents.values()), documents
    assert all(len(text.splitlines()) > 1 for text in documents.values())


@pytest.mark.parametrize("program", ["/no/such/program", "no-such-program"])
def test_a_missing_main_command_is_named_and_leaves_nothing(provision: Provision, paths: Paths, program: str) -> None:
    target = provision(command=Command(argv=(program,)), network=NetworkMode.BRIDGE, limits=LIMITS)
    with pytest.raises(TargetError, match=program) as caught:
        target.start()
    assert not isinstance(caught.value, TargetTimeout)
    assert caught.value.phase == "start"
    footprint = target.footprint()
    assert (footprint.pids, footprint.helper_pids) == ((), ())
    target.destroy()
    name = target.spec.name
    places = (paths.containers, paths.processes, paths.guests, os.path.join(paths.run, "guests"))
    assert not [entry for place in places if os.path.isdir(place) for entry in os.listdir(place) if name in entry]
    assert not [point for point in snapshots.mount_points_below(paths.root) if name in point]
    assert not cgroups.directories(cgroups.detect(), f"{target.spec.cgroup_parent}/{name}")
    assert eventually(lambda: not any(os.path.exists(f"/sys/class/net/{link}") for link in footprint.links))
