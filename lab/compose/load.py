"""Files in, a Project out."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from lab.compose import objects, schema
from lab.compose.assemble import Source, assemble, read
from lab.compose.check import check
from lab.compose.interpolation import Variables, interpolate_tree
from lab.compose.model import DEFAULT_NETWORK, Project, is_asked_for
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
            replaced = interpolate_tree(node, Variables(values=found.environment), "name")
            said = schema.PROJECT_NAME.read(replaced, "name").text()
    return said


def _with_named(profiles: Sequence[str], tree: Node, named: Iterable[str]) -> tuple[str, ...]:
    """Return the active profiles, with those of the services that are named and in none of them."""
    services = tree.at("services").entries()
    wanted = [services[name].texts("profiles") for name in named if name in services]
    more = (profile for each in wanted if not is_asked_for(each, profiles) for profile in each)
    return tuple(dict.fromkeys((*profiles, *more)))


def _project(tree: Node, name: str, profiles: tuple[str, ...], found: Surroundings, variables: Variables) -> Project:
    nodes = tree.at("services").entries()
    active = {each for each, node in nodes.items() if is_asked_for(node.texts("profiles"), profiles)}
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
        warnings=(*found.warnings, *variables.warnings(), *_obsolete(tree), *_without_effect(nodes, active)),
    )


def _obsolete(tree: Node) -> Iterator[str]:
    version = tree.get("version")
    if version is not None:
        yield (
            f"{version.place.file}: the attribute `version` is obsolete, it will be ignored, please remove it to avoid "
            "potential confusion"
        )


def _without_effect(services: Mapping[str, Node], active: Collection[str]) -> Iterator[str]:
    for name, node in services.items():
        for key in schema.WITHOUT_EFFECT:
            if name in active and node.get(key) is not None:
                yield f"services.{name}.{key}: has no effect here"
