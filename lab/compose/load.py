"""Files in, a Project out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from lab.compose import objects, schema
from lab.compose.assemble import Source, assemble, read
from lab.compose.check import check
from lab.compose.interpolation import Variables, interpolate_tree
from lab.compose.model import ALL_PROFILES, DEFAULT_NETWORK, Project
from lab.compose.services import service
from lab.compose.surroundings import Surroundings, project_name, surroundings
from lab.compose.surroundings import profiles as active_profiles
from lab.compose.tree import Node


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
    names: their profiles are active by that. "-" is standard input.

    Raises:
        SpecError: a file is missing or wrong.
    """
    found = surroundings(
        paths, environment=environment, project_directory=project_directory, env_files=env_files, cwd=os.getcwd()
    )
    documents = [document for path in found.files for document in read(path, found.directory)]
    called = project_name(name, _name_of(documents, found), found)
    variables = Variables(values={**found.environment, "COMPOSE_PROJECT_NAME": called})
    tree = assemble(documents, Source(directory=found.directory, variables=variables, chain=found.files))
    active = _with_named(active_profiles(profiles, found.environment), tree, named)
    return _project(tree, called, active, found, variables)


def _name_of(documents: Iterable[Node], found: Surroundings) -> str:
    """Return what the last of the documents that does so calls the project, "" where none does."""
    said = ""
    for document in documents:
        node = document.get("name")
        if node is not None and node.value is not None:
            said = (
                schema.FILE.keys["name"]
                .read(interpolate_tree(node, Variables(values=found.environment)), "name")
                .text()
            )
    return said


def _with_named(profiles: Sequence[str], tree: Node, named: Iterable[str]) -> tuple[str, ...]:
    """Return the active profiles, with those of the services that are named and in none of them."""
    services = tree.at("services").entries()
    more = (
        profile
        for name in named
        if name in services and not _is_active(services[name], profiles)
        for profile in services[name].texts("profiles")
    )
    return tuple(dict.fromkeys((*profiles, *more)))


def _is_active(node: Node, profiles: Sequence[str]) -> bool:
    wanted = node.texts("profiles")
    return not wanted or ALL_PROFILES in profiles or not set(wanted).isdisjoint(profiles)


def _project(tree: Node, name: str, profiles: tuple[str, ...], found: Surroundings, variables: Variables) -> Project:
    nodes = tree.at("services").entries()
    active = {each for each, node in nodes.items() if _is_active(node, profiles)}
    check(tree, active)
    services = {each: service(each, node, variables.values, reads_files=each in active) for each, node in nodes.items()}
    has_default = any(DEFAULT_NETWORK in services[each].networks for each in active)
    return Project(
        name=name,
        working_directory=found.directory,
        files=found.files,
        env_files=found.env_files,
        environment=variables.values,
        profiles=profiles,
        services=services,
        networks=objects.networks(tree, name, has_default=has_default),
        volumes=objects.volumes(tree, name),
        configs=objects.file_objects(tree, "configs", name),
        secrets=objects.file_objects(tree, "secrets", name),
        warnings=(*found.warnings, *variables.warnings(), *_without_effect(tree, active)),
    )


def _without_effect(tree: Node, active: Iterable[str]) -> tuple[str, ...]:
    """Return what to tell the user about keys that do nothing here."""
    version = tree.get("version")
    said = (
        ()
        if version is None
        else (
            f"{version.place.file}: the attribute `version` is obsolete, it will be ignored, please remove it to avoid "
            "potential confusion",
        )
    )
    services = tree.at("services").entries()
    keys = (
        f"services.{name}.{key}: has no effect here"
        for name in services
        if name in active
        for key in schema.WITHOUT_EFFECT
        if services[name].get(key) is not None
    )
    return (*said, *keys)
