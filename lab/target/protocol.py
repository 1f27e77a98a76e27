"""The protocols that every way of isolating answers to: five methods wide, and no wider.

Capabilities that only some arms have are protocols of their own (``Reachable``, ``Pausable``), asked for with
``isinstance``: no method may raise "not implemented". The contract tests run on every registered backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from lab.target.spec import (
    Availability,
    Command,
    Endpoint,
    Execution,
    Footprint,
    MarkSink,
    TargetSpec,
)


@runtime_checkable
class Target(Protocol):
    """One provisioned place: a process, a container or a guest."""

    @property
    def spec(self) -> TargetSpec:
        """What was asked for."""
        ...

    def start(self) -> None:
        """Start the main command; marks are emitted as they happen, up to READY where the payload gives a byte.

        Returns when the first byte of the main command's output has come (mark READY), or at once after USERSPACE
        (or the last mark the arm can see) when ``spec.service_port`` is set: then the harness asks the service.

        Raises:
            TargetError: it could not be started; nothing is left running.
            TargetTimeout: no ready byte within ``spec.start_timeout_ns``; the message ends with the last console
                or error lines.
        """
        ...

    def exec(self, command: Command) -> Execution:
        """Run ``command`` inside, beside the main command, under the same limits, and wait for its end.

        Raises:
            TargetError: it could not be run at all: the target does not run, or has no such working directory. (A
                program that is missing is exit code 127, one that cannot be executed 126: no errors.)
            TargetTimeout: it did not end within ``command.timeout_ns``; it has been killed.
        """
        ...

    def footprint(self) -> Footprint:
        """Return the cgroups and host pids that this target costs now, helpers included."""
        ...

    def stop(self) -> None:
        """Stop the main command, SIGTERM or power button first, then by force; safe to call twice.

        Emits GONE when no process of the target is left.
        """
        ...

    def destroy(self) -> None:
        """Remove everything that provisioning and starting made; stops it first if need be; safe to call twice."""
        ...


@runtime_checkable
class Backend(Protocol):
    """One way of isolating."""

    @property
    def name(self) -> str:
        """What users type and reports print: "container", "vm-tcg"."""
        ...

    def check(self) -> Availability:
        """Return whether this host can do it, found by trying once; answers may be cached for this boot."""
        ...

    def provision(self, spec: TargetSpec, marks: MarkSink) -> Target:
        """Lay out disk and configuration for one target; start nothing.

        Raises:
            ImageNotFound: the store has no such manifest.
            TargetError: it could not be laid out; nothing is left.
        """
        ...


@runtime_checkable
class Reachable(Protocol):
    """A target whose service can be reached from the host."""

    def endpoint(self) -> Endpoint:
        """Return where ``spec.service_port`` answers; valid once started."""
        ...


@runtime_checkable
class Pausable(Protocol):
    """A target that can be frozen in place."""

    def pause(self) -> None:
        """Freeze every process or vCPU of the target."""
        ...

    def resume(self) -> None:
        """Let it go on."""
        ...


@runtime_checkable
class GuestView(Protocol):
    """A target with a kernel of its own, which has its own view of memory."""

    def guest_meminfo(self) -> Mapping[str, int]:
        """Return the guest's /proc/meminfo in bytes (counts without a unit as they are)."""
        ...


@runtime_checkable
class Crashable(Protocol):
    """A target whose kernel is its own, so that its crash harms nobody else."""

    def crash_kernel(self) -> None:
        """Make its kernel panic, and return when it is seen to be gone.

        Raises:
            TargetError: the kernel does not panic.
        """
        ...


@runtime_checkable
class Traceable(Protocol):
    """A target that was started from documents which a report should show whole."""

    def provenance(self) -> Mapping[str, str]:
        """Return the documents by name ("domain_xml", "qemu_argv"); valid while it runs."""
        ...


@runtime_checkable
class Closing(Protocol):
    """A backend that keeps something between targets: a spawner, a private daemon, a bridge."""

    def close(self) -> None:
        """Let go of what is kept between targets; safe to call twice, and the backend can be used again after it."""
        ...
