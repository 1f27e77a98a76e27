"""Where a build's files come from: a directory, or nothing but a Dockerfile; and which of them count."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lab.container.image.build_select import Origin
from lab.container.image.ignore import IgnoreRules, ignore_file_name, parse_ignore
from lab.errors import BuildFailed

DOCKERFILE = "Dockerfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """An open context: the Dockerfile's text and its name in messages, and the files that COPY may take."""

    dockerfile: str
    path: str
    origin: Origin


def open_directory(directory: str, *, dockerfile: str = "", text: str | None = None) -> Context:
    """Return the context of a directory; the file is ``dockerfile``, by default the one in it, or ``text`` itself.

    Raises:
        BuildFailed: there is no such directory or file.
        SpecError: the ignore file has a fault.
    """
    if not os.path.isdir(directory):
        raise BuildFailed(f"unable to prepare context: path {directory!r} not found")
    path = os.path.abspath(dockerfile) if dockerfile else _default_file(directory)
    content = _read(path) if text is None else text
    shown = os.path.relpath(path) if text is None else DOCKERFILE
    return Context(dockerfile=content, path=shown, origin=_origin(directory, path))


def _default_file(directory: str) -> str:
    names = (DOCKERFILE, DOCKERFILE.lower())
    found = next((name for name in names if os.path.exists(os.path.join(directory, name))), DOCKERFILE)
    return os.path.join(os.path.abspath(directory), found)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except (FileNotFoundError, IsADirectoryError) as error:
        hint = "name the file with -f FILE"
        raise BuildFailed(f"failed to read dockerfile {path}: {error.strerror}", hint=hint) from None


def _origin(directory: str, dockerfile: str) -> Origin:
    root = os.path.realpath(directory)
    relative = os.path.relpath(dockerfile, root)
    beside = {
        f"{dockerfile}.dockerignore": f"{relative}.dockerignore",
        os.path.join(root, ".dockerignore"): ".dockerignore",
    }
    existing = {name for path, name in beside.items() if os.path.isfile(path)}
    name = ignore_file_name(relative, existing)
    rules = IgnoreRules()
    if name is not None:
        path = next(path for path, each in beside.items() if each == name)
        rules = parse_ignore(_read(path), path=os.path.relpath(path))
    return Origin(root=root, subject="build context", rules=rules)
