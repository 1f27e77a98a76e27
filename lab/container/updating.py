"""Limits of a container that exists -> other limits, as ``docker update`` gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lab.container import events, host_limits
from lab.container.containers import Containers
from lab.container.options import cgroups
from lab.container.record import ContainerRecord
from lab.errors import KernelError


def update_limits(containers: Containers, reference: str, changes: Mapping[str, object]) -> tuple[str, ...]:
    """Change limits, fields of ``RunOptions``, of a container, running or not; return what to tell the user.

    Raises:
        NoSuchContainer: there is none.
        SpecError: a limit cannot be.
        UnavailableError: this host cannot enforce one of them.
        KernelError: the kernel refuses, such as less memory than is in use.
    """
    container, runtime = containers.get(reference), containers.engine.runtime
    with containers.engine.directory.locked(container.id):
        record = ContainerRecord.load(container.state.bundle)
        options = cgroups.updated(record.options, changes)
        host = host_limits.find(options, runtime.layout)
        devices = containers.engine.directory.load_spec(container.id).linux.resources.devices
        try:
            runtime.update(container.id, cgroups.resources(options, host, devices))
        except OSError as error:
            raise KernelError("update", str(error.filename), error.strerror or str(error)) from error
        replace(record, options=options).save(container.state.bundle)
    events.note(container.state.bundle, "update")
    return cgroups.warnings(options, host)
