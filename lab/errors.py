"""Every deliberate exception of the lab and its exit code; the only place where they are defined.

    LabError                    1    something that we foresaw went wrong
     ├─ SpecError               2    the user's file or arguments, with path and line
     │   ├─ NoComposeFile
     │   └─ DockerfileError     1    as docker does
     ├─ UnavailableError        3    this host cannot; what is missing and how to get it
     ├─ TemplateError           1    a --format template; 64 for inspect's syntax, as in docker
     ├─ RegressionFound         4    a comparison gate did not pass
     ├─ KernelError             1    the kernel refused: operation and object
     ├─ ContainerError          1    the container engine
     │   ├─ ImageNotFound
     │   ├─ DigestMismatch
     │   ├─ LayerCorrupt
     │   ├─ RegistryError       a registry refused, or could not be reached
     │   ├─ NoSuchContainer
     │   ├─ NoSuchNetwork
     │   ├─ NoSuchVolume
     │   ├─ StateConflict
     │   ├─ WaitCancelled       nobody waits for it any more
     │   └─ BuildFailed        that of the command that failed
     │       └─ BuildCancelled
     ├─ DomainError             1    libvirt or QEMU
     │   └─ NoSuchMachine
     ├─ TargetError             1    a target failed in a phase
     │   └─ TargetTimeout
     ├─ WorkloadFailed          1    the payload ran and failed
     └─ MeasurementError        1    a number could not be taken or kept

A message says *what failed, on what, why*; the hint says *what to do next*, best as a command.
They are caught in four places only: ``cli/main.py``, ``api/dispatch.py`` (a failure becomes an answer), the harness
(a failure becomes a record), and where a foreign error is translated.
"""

from __future__ import annotations

import errno

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3
EXIT_REGRESSION = 4
EXIT_TEMPLATE = 64
EXIT_INTERRUPTED = 130


class LabError(Exception):
    """Something that we foresaw went wrong.

    ``str()`` is one sentence for the user: what failed, on what, why. ``hint`` is what to do next or "".
    """

    exit_code: int = EXIT_FAILURE

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class SpecError(LabError):
    """The user's file or arguments are wrong; carries the file and the 1-based line where known."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, *, path: str = "", line: int | None = None, hint: str = "") -> None:
        where = f"{path}:{line}: " if path and line else f"{path}: " if path else ""
        super().__init__(where + message, hint=hint)
        self.path = path
        self.line = line


class NoComposeFile(SpecError):  # noqa: N818 - compose's words are "no configuration file provided"
    """There is no compose file where one is looked for, and none was named."""


class DockerfileError(SpecError):
    """A Dockerfile, or what it asks for, is wrong; its code is the one that docker gives."""

    exit_code = EXIT_FAILURE


class TemplateError(LabError):
    """A ``--format`` template cannot be read, or asks for what is not there."""


class UnavailableError(LabError):
    """This host cannot do it; the hint says how to get what is missing."""

    exit_code = EXIT_UNAVAILABLE


class RegressionFound(LabError):  # noqa: N818 - a finding, not an error of the program
    """A comparison gate found a regression."""

    exit_code = EXIT_REGRESSION


class KernelError(LabError):
    """The kernel refused an operation on an object."""

    def __init__(self, operation: str, subject: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"{operation} {subject}: {reason}", hint=hint)
        self.operation = operation
        self.subject = subject

    @classmethod
    def of(cls, operation: str, subject: str, error: OSError) -> KernelError:
        """Return what a refusal means to the user, with what to do where a disk is full or cannot be written to."""
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        return cls(operation, subject, reason, hint=disk_hint(error.errno))


def disk_hint(number: int | None) -> str:
    """Return what to do about a disk that gave this errno, "" where it is not about a disk."""
    if number in (errno.ENOSPC, errno.EDQUOT):
        return (
            "see what takes the space: lab system df; free what nothing uses: lab system prune; or use another --root"
        )
    return "make the file system writable, or use another --root" if number == errno.EROFS else ""


class ContainerError(LabError):
    """The container engine failed."""


class ImageNotFound(ContainerError):  # noqa: N818 - OCI and docker speak of a missing image, not an error
    """No image has this name or digest in the store."""


class DigestMismatch(ContainerError):  # noqa: N818
    """Content does not have the digest under which it is stored or asked for."""

    def __init__(self, subject: str, *, expected: str, actual: str, hint: str = "") -> None:
        super().__init__(f"{subject}: digest is {actual}, expected {expected}", hint=hint)
        self.expected = expected
        self.actual = actual


class LayerCorrupt(ContainerError):  # noqa: N818
    """A layer cannot be unpacked as it stands, or tries to leave its root."""


class RegistryError(ContainerError):
    """A registry refused, could not be reached, or gave what it should not; ``status`` is HTTP's, 0 without answer."""

    def __init__(self, message: str, *, status: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class NoSuchContainer(ContainerError):  # noqa: N818
    """No container has this name or id."""


class NoSuchVolume(ContainerError):  # noqa: N818
    """No volume has this name."""


class NoSuchNetwork(ContainerError):  # noqa: N818
    """No network has this name or id."""


class StateConflict(ContainerError):  # noqa: N818
    """The container is not in a state that allows the operation."""


class WaitCancelled(ContainerError):  # noqa: N818
    """What was waited for may still come, but something else has failed, or the user has had enough."""


class BuildFailed(ContainerError):  # noqa: N818 - the command failed, not the lab
    """A step of a build failed; ``exit_code`` is that of its command, as docker's builder passes it on."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILURE, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class BuildCancelled(BuildFailed):
    """A step of a build was ended, or not begun, since another one had failed."""


class DomainError(LabError):
    """libvirt or QEMU failed on a domain."""


class NoSuchMachine(DomainError):  # noqa: N818
    """No machine, or no domain of libvirt's, has this name or id."""


class TargetError(LabError):
    """A target failed; carries the backend's name and the phase in which it happened."""

    def __init__(self, message: str, *, backend: str, phase: str, hint: str = "") -> None:
        super().__init__(f"{backend}: {phase}: {message}", hint=hint)
        self.backend = backend
        self.phase = phase


class TargetTimeout(TargetError):  # noqa: N818
    """A target did not get ready, answer, or go away in time."""


class WorkloadFailed(LabError):  # noqa: N818
    """The payload ran inside the target and failed; carries its exit code."""

    def __init__(self, message: str, *, payload_exit_code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.payload_exit_code = payload_exit_code


class MeasurementError(LabError):
    """A number could not be taken, read or recorded."""
