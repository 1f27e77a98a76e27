"""From a suite and a host to a run: which arms are there, which images, what labels the numbers.

Everything slow or doubtful is settled here, before the first trial: checks, digests, dimensions.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import lab
from lab.bench import fairness, host, overhead, programs, schedule
from lab.bench.model import Arm, ArmDefinition, Metric, Primary, Run, Suite
from lab.bench.records import SCHEMA
from lab.bench.schedule import Schedule
from lab.bench.trial import METRICS, utc_now
from lab.bench.workloads.catalogue import WORKLOADS
from lab.bench.workloads.protocol import Clock
from lab.container.image.store import ImageStore
from lab.errors import MeasurementError, UnavailableError
from lab.paths import Paths
from lab.target.protocol import Backend, Closing
from lab.target.registry import open_backend

SUITE_FILE = "suite.toml"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run that can begin, or go on: its first record, its directory, its order, and the backends by arm."""

    run: Run
    directory: str
    plan: Schedule
    backends: Mapping[str, Backend]

    def close(self) -> None:
        """Let go of what the backends keep between targets."""
        _close(self.backends)


def begin(suite: Suite, paths: Paths, *, seed: int, directory: str, clock: Clock, tell: Tell) -> Prepared:
    """Prepare a new run in ``directory``, which is made.

    Raises:
        UnavailableError: the baseline cannot be measured here: there would be nothing to compare with.
        ImageNotFound: the suite wants an image that has not been made.
        MeasurementError: the directory cannot be made, or holds something.
    """
    images = _images(suite, paths)
    backends, arms = _arms(suite, paths, tell)
    try:
        plan = schedule.plan(suite, seed=seed, arms=[arm.name for arm in arms if arm.available])
        run_id = os.path.basename(directory)
        _make_directory(directory, suite)
        run = Run(
            id=run_id,
            schema=SCHEMA,
            started_at=utc_now(),
            lab_version=lab.__version__,
            commit=host.commit(),
            seed=seed,
            order=plan.digest,
            # the copy beside the results is what the run goes by; where the original lay means nothing elsewhere
            suite=replace(suite, path=SUITE_FILE),
            arms=arms,
            images=images,
            metrics=_metrics(suite),
            dimensions=_dimensions(suite, paths, directory, images),
            primary=_primaries(suite),
            readings=host.readings() | overhead.measure(clock),
        )
    except BaseException:
        _close(backends)
        raise
    return Prepared(run=run, directory=directory, plan=plan, backends=backends)


def resume(run: Run, paths: Paths, *, directory: str, tell: Tell) -> Prepared:
    """Prepare the rest of an interrupted run.

    Raises:
        MeasurementError: this machine, its images or arms are not what the run began with, or the order is not.
    """
    images = _images(run.suite, paths)
    backends, arms = _arms(run.suite, paths, tell)
    available = [arm.name for arm in arms if arm.available]
    try:
        plan = schedule.plan(run.suite, seed=run.seed, arms=available)
        differences = [
            *_differences("image", run.images, images),
            *_differences("", run.dimensions, _dimensions(run.suite, paths, directory, images)),
            *_arm_differences(run.arms, arms),
        ]
        if plan.digest != run.order and not differences:
            differences = ["the order of trials is another one"]
        if differences:
            raise MeasurementError(
                f"run {run.id} cannot be resumed here: {'; '.join(differences)}",
                hint=f"start a new one: lab bench run {run.suite.name} --seed {run.seed}",
            )
    except BaseException:
        _close(backends)
        raise
    return Prepared(run=run, directory=directory, plan=plan, backends=backends)


def new_directory(parent: str, suite_name: str) -> str:
    """Return a path in ``parent`` for a run that begins now; nothing is made."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{suite_name}"
    candidates = (os.path.join(parent, stem + suffix) for suffix in ("", *(f"-{n}" for n in range(2, 100))))
    return next(path for path in candidates if not os.path.exists(path))


def new_seed() -> int:
    """Return a seed that is easy to type."""
    return int.from_bytes(hashlib.sha256(os.urandom(16)).digest()[:3], "big")


def _images(suite: Suite, paths: Paths) -> dict[str, str]:
    store = ImageStore.open(paths)
    names = dict.fromkeys(use.image for use in suite.workloads)
    return {name: store.resolve(name).manifest_digest for name in names}


def _dimensions(suite: Suite, paths: Paths, directory: str, images: Mapping[str, str]) -> dict[str, str]:
    found = host.dimensions({"": paths.root, "containers_": paths.containers, "runs_": directory})
    return found | {"payload_digest": _payloads(suite, paths, images)}


def _payloads(suite: Suite, paths: Paths, images: Mapping[str, str]) -> str:
    """Return the digest of each program that is measured, with the image that it is in."""
    store, found = ImageStore.open(paths), {}
    for use in suite.workloads:
        for path in WORKLOADS[use.workload].needs(use.parameters, 0).programs:
            digest = programs.digest(store.layer_directories(images[use.image]), path)
            found[path, use.image] = f"{path} in {use.image}: {digest or 'not there'}"
    return "; ".join(found.values())


def _arms(suite: Suite, paths: Paths, tell: Tell) -> tuple[dict[str, Backend], tuple[Arm, ...]]:
    backends: dict[str, Backend] = {}
    arms: list[Arm] = []
    try:
        defined = {definition.name: definition for definition in suite.definitions}
        for name in suite.arms:
            tell(f"checking {name}")
            definition = defined.get(name, ArmDefinition(name=name, use=name))
            backend = open_backend(definition.use, paths, definition.options)
            backends[name] = backend
            found = backend.check()
            reason = "" if found.available else _sentence(found.reason, found.hint)
            facts = dict(found.facts) | _option_facts(definition)
            arms.append(Arm(name=name, available=found.available, reason=reason, facts=facts))
        _require_baseline(suite, arms)
    except BaseException:
        _close(backends)
        raise
    base = next(arm for arm in arms if arm.name == suite.baseline)
    return backends, tuple(replace(arm, fairness=fairness.card(arm.facts, base.facts)) for arm in arms)


def _require_baseline(suite: Suite, arms: Sequence[Arm]) -> None:
    base = next(arm for arm in arms if arm.name == suite.baseline)
    if not base.available:
        raise UnavailableError(
            f"the baseline '{suite.baseline}' cannot be measured here: {base.reason}",
            hint=f"lab doctor {suite.baseline}",
        )


def _option_facts(definition: ArmDefinition) -> dict[str, str]:
    """Return what a report shows of an arm that a suite has defined."""
    if not definition.options:
        return {}
    given = ", ".join(f"{name} = {value}" for name, value in definition.options.items())
    return {"options": f"{definition.use} with {given}"}


def _sentence(reason: str, hint: str) -> str:
    return f"{reason} (to mend it: {hint})" if hint else reason


def _close(backends: Mapping[str, Backend]) -> None:
    for backend in backends.values():
        if isinstance(backend, Closing):
            backend.close()


def _make_directory(directory: str, suite: Suite) -> None:
    try:
        os.makedirs(directory)
        shutil.copyfile(suite.path, os.path.join(directory, SUITE_FILE))
    except OSError as error:
        raise MeasurementError(
            f"cannot make the run's directory {directory}: {error.strerror}", hint="name another one with --output"
        ) from error


def _metrics(suite: Suite) -> tuple[Metric, ...]:
    declared = [metric for use in suite.workloads for metric in WORKLOADS[use.workload].metrics]
    return tuple({metric.name: metric for metric in (*METRICS, *declared)}.values())


def _primaries(suite: Suite) -> tuple[Primary, ...]:
    found = []
    for use in suite.workloads:
        metric, labels = WORKLOADS[use.workload].primary(use.parameters)
        found.append(Primary(workload=use.key, metric=metric, labels=labels))
    return tuple(found)


def _differences(what: str, before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    names = sorted(set(before) | set(now))
    return [
        f"{what} {name} was {before.get(name, 'not there')}, is {now.get(name, 'not there')}".strip()
        for name in names
        if before.get(name) != now.get(name)
    ]


def _arm_differences(before: Sequence[Arm], now: Sequence[Arm]) -> list[str]:
    found = []
    for old, new in zip(before, now, strict=True):
        if old.available != new.available:
            found.append(f"target {old.name} {'is gone' if old.available else 'has come'}: {new.reason or 'it works'}")
        elif old.available:
            found.extend(_differences(f"{old.name}'s", old.facts, new.facts))
    return found
