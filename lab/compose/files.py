"""Configs and secrets as files of the host, which containers have read-only.

One that is a file is that very file. One whose content is in the project's files or in a variable, or that is to have
an owner or a mode of its own, is written by compose, below a directory that goes with the project:

    compose/<project>/<config or secret>-<digest>
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from lab.compose.model import FileObject, FileReference, Project, Service
from lab.compose.naming import content_of
from lab.container.storage.durable import write_atomically
from lab.container.storage.trees import remove_tree
from lab.errors import SpecError
from lab.paths import Paths

_MODE = 0o444


def places(paths: Paths, project: Project, service: Service) -> dict[str, str]:
    """Return the paths of the host at which a service's configs and secrets are, by theirs inside; they are made.

    Raises:
        SpecError: one of them is not to be had.
    """
    return {
        reference.target: _place(paths, project, reference, subject) for reference, subject in _wanted(project, service)
    }


def _wanted(project: Project, service: Service) -> Iterator[tuple[FileReference, FileObject]]:
    for references, objects in ((service.configs, project.configs), (service.secrets, project.secrets)):
        for reference in references:
            yield reference, objects[reference.source]


def _place(paths: Paths, project: Project, reference: FileReference, subject: FileObject) -> str:
    if subject.external:
        raise SpecError(f'unsupported external secret or config "{subject.name}": only a swarm has such')
    if subject.file and reference.mode is None and not (reference.uid or reference.gid):
        if not os.path.exists(subject.file):
            raise SpecError(f"{subject.key}: bind source path does not exist: {subject.file}")
        return subject.file
    return _written(paths, project, reference, _content(project, subject))


def _content(project: Project, subject: FileObject) -> bytes:
    if subject.file:
        try:
            with open(subject.file, "rb") as file:
                return file.read()
        except OSError as error:
            raise SpecError(f"{subject.key}: {subject.file}: {error.strerror}") from error
    if subject.environment and subject.environment not in project.environment:
        raise SpecError(f'environment variable "{subject.environment}" required by "{subject.key}" is not set')
    return content_of(project.environment, subject).encode()


def _written(paths: Paths, project: Project, reference: FileReference, content: bytes) -> str:
    owner = tuple(_number(text, reference) for text in (reference.uid, reference.gid))
    mode = _MODE if reference.mode is None else reference.mode
    digest = hashlib.sha256(repr((content, owner, mode)).encode()).hexdigest()
    path = os.path.join(_directory(paths, project.name), f"{reference.source}-{digest[:16]}")
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        write_atomically(temporary, content, mode=0o600)
        os.chown(temporary, *owner)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    return path


def _number(text: str, reference: FileReference) -> int:
    if text and not text.isdecimal():
        raise SpecError(f"{reference.source}: uid and gid are numbers, not {text!r}")
    return int(text or 0)


def forget(paths: Paths, project_name: str) -> None:
    """Remove what was written for a project that is gone; safe to call twice."""
    directory = _directory(paths, project_name)
    if os.path.isdir(directory):
        remove_tree(directory)


def _directory(paths: Paths, project_name: str) -> str:
    return os.path.join(paths.root, "compose", project_name)
