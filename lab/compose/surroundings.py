"""Which files make a project, what its variables are, what it is called: by arguments, environment and directory.

Source: https://docs.docker.com/compose/how-tos/environment-variables/envvars, "Pre-defined environment variables";
https://docs.docker.com/reference/cli/docker/compose, "-f", "-p".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.compose.assemble import STDIN, environment_of
from lab.errors import NoComposeFile, SpecError

_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """A project's files, its directory, the files of its variables, and the variables themselves."""

    files: tuple[str, ...]
    directory: str
    env_files: tuple[str, ...]
    environment: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def surroundings(
    paths: Sequence[str], *, environment: Mapping[str, str], project_directory: str, env_files: Sequence[str], cwd: str
) -> Surroundings:
    """Return what a project is made of; arguments count more than the environment, and that more than ``.env``.

    Raises:
        NoComposeFile: there is none, and none is named.
        SpecError: a file of variables is wrong.
    """
    start = os.path.join(cwd, project_directory) if project_directory else cwd
    variables, read = _variables(env_files, environment, start, cwd)
    found, warnings = _files(paths, variables, start, cwd)
    directory = _directory(found, project_directory, cwd)
    if not env_files and "COMPOSE_ENV_FILES" not in environment and directory != start:
        variables, more = _variables((), variables, directory, cwd)
        read = (*read, *more)
    return Surroundings(files=found, directory=directory, env_files=read, environment=variables, warnings=warnings)


def profiles(asked: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the profiles that are active: those asked for, and those of COMPOSE_PROFILES."""
    of_environment = environment.get("COMPOSE_PROFILES", "").split(",")
    return tuple(dict.fromkeys(name.strip() for name in (*asked, *of_environment) if name.strip()))


def project_name(asked: str, of_files: str, found: Surroundings) -> str:
    """Return the project's name: one that is asked for, the environment's, the files' own, else that of its directory.

    Raises:
        SpecError: it is none, or there is none.
    """
    said = asked or found.environment.get("COMPOSE_PROJECT_NAME", "") or of_files
    name = said or normalised(os.path.basename(found.directory))
    if not name:
        raise SpecError("project name must not be empty", hint="give one with -p, or with 'name:' in the file")
    if _PROJECT_NAME.fullmatch(name) is None:
        raise SpecError(
            f"invalid project name {name!r}: must consist only of lowercase alphanumeric characters, hyphens, and "
            "underscores as well as start with a letter or number",
            hint=f"such as {normalised(name)!r}" if normalised(name) else "",
        )
    return name


def normalised(name: str) -> str:
    """Return a name without what a project's name cannot have."""
    return re.sub(r"[^-_a-z0-9]", "", name.lower()).lstrip("_-")


def _variables(
    asked: Sequence[str], environment: Mapping[str, str], directory: str, cwd: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    files = asked or [name for name in environment.get("COMPOSE_ENV_FILES", "").split(",") if name]
    paths = [os.path.join(cwd, name) for name in files]
    default = os.path.join(directory, ".env")
    if not paths and os.path.isfile(default) and environment.get("COMPOSE_DISABLE_ENV_FILE") not in ("1", "true"):
        paths = [default]
    return environment_of(paths, environment), tuple(paths)


def _files(
    asked: Sequence[str], environment: Mapping[str, str], start: str, cwd: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the compose files, and what to tell the user about them."""
    separator = environment.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    named = asked or [name for name in environment.get("COMPOSE_FILE", "").split(separator) if name]
    if named:
        return tuple(name if name == STDIN else os.path.normpath(os.path.join(cwd, name)) for name in named), ()
    for directory in _upwards(start):
        files = _present(directory, _NAMES)
        if files:
            overrides = _present(directory, _OVERRIDES)
            warnings = (*_doubt(files), *_doubt(overrides))
            return (files[0], *overrides[:1]), warnings
    raise NoComposeFile(
        "no configuration file provided: not found", hint=f"make a {_NAMES[0]} here, or name a file with -f"
    )


def _doubt(files: Sequence[str]) -> tuple[str, ...]:
    if len(files) < 2:
        return ()
    return (f"Found multiple config files with supported names: {', '.join(files)}", f"Using {files[0]}")


def _present(directory: str, names: Sequence[str]) -> list[str]:
    return [path for name in names if os.path.isfile(path := os.path.join(directory, name))]


def _upwards(directory: str) -> Iterator[str]:
    yield directory
    while (parent := os.path.dirname(directory)) != directory:
        directory = parent
        yield directory


def _directory(files: Sequence[str], project_directory: str, cwd: str) -> str:
    if project_directory:
        return os.path.normpath(os.path.join(cwd, project_directory))
    return cwd if files[0] == STDIN else os.path.dirname(files[0])
