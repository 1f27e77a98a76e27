"""Deciding, when a container is about to be started, what its health check runs: the spawner need only run it."""

from __future__ import annotations

from lab.container import health
from lab.container.engine import Engine
from lab.container.options import health as options
from lab.container.record import ContainerRecord
from lab.container.state import ContainerState
from lab.linux.cgroup import layout


def prepare(engine: Engine, state: ContainerState) -> None:
    """Write what is to be run, and when, into the container's directory; nothing for one without check.

    Raises:
        NoSuchContainer: there is none.
    """
    record = ContainerRecord.load(state.bundle)
    plan = options.plan(options.effective(record.options.healthcheck, record.image.healthcheck), record.image.shell)
    if plan is None:
        return
    unified = engine.runtime.layout.hierarchy("")
    fields = (
        engine.runtime.encode_exec(state, engine.process(state.id, plan.args)),
        "" if unified is None else unified.directory(state.cgroup),
        layout.freezer_file(engine.runtime.layout, state.cgroup),
        plan.interval_ns,
        plan.timeout_ns,
        plan.start_period_ns,
        plan.start_interval_ns,
        plan.retries,
        record.options.health_on_failure,
    )
    health.write_check(state.bundle, fields)
