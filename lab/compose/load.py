"""Files in, a Project out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.compose.model import Project


def load(
    paths: Sequence[str] = (),
    *,
    environment: Mapping[str, str],
    project_directory: str = "",
    profiles: Sequence[str] = (),
    name: str = "",
    env_files: Sequence[str] = (),
    named: Sequence[str] = (),
) -> Project:
    """Return the project of some files; none: those that the environment names, else the default ones.

    ``environment`` is the caller's, ``COMPOSE_…`` variables included. ``named`` are the services that the command
    names, whose profiles are active by that. "-" is standard input.

    Raises:
        SpecError: a file is missing or wrong.
    """
    raise NotImplementedError
