"""What a project's containers, networks and volumes are called and labelled; pure.

Names and labels are those of docker compose, so that each sees the projects of the other.
Source: github.com/docker/compose, pkg/api/labels.go and pkg/compose.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

import lab
from lab.compose.model import Deploy, FileObject, Network, Project, Service, Volume
from lab.container.spec import codec

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
ONE_OFF = "com.docker.compose.oneoff"
CONFIG_HASH = "com.docker.compose.config-hash"
WORKING_DIRECTORY = "com.docker.compose.project.working_dir"
CONFIG_FILES = "com.docker.compose.project.config_files"
DEPENDS_ON = "com.docker.compose.depends_on"
IMAGE = "com.docker.compose.image"
NETWORK = "com.docker.compose.network"
VOLUME = "com.docker.compose.volume"
VERSION = "com.docker.compose.version"
REPLACES = "com.docker.compose.replace"
SLUG = "com.docker.compose.slug"
_SHORT_ID = 12
_JOINS = "service:"


def container_name(project: Project, service: Service, number: int) -> str:
    """Return what the container of this number is called."""
    return service.container_name or f"{project.name}-{service.name}-{number}"


def temporary_name(name: str, replaced_id: str) -> str:
    """Return what a container is called until the one that it takes the place of is gone."""
    return f"{replaced_id[:_SHORT_ID]}_{name}"


def shown_name(project: str, name: str) -> str:
    """Return what a container is called before its log lines: without the project's name."""
    return name.removeprefix(f"{project}-")


def image_name(project: Project, service: Service) -> str:
    """Return the image that a service's containers are made of."""
    return service.image or f"{project.name}-{service.name}"


def joined(mode: str) -> str:
    """Return the service whose namespace a mode like "service:NAME" joins, "" for any other."""
    return mode.removeprefix(_JOINS) if mode.startswith(_JOINS) else ""


def joined_services(service: Service) -> tuple[str, ...]:
    """Return the services whose containers a service's containers are made upon: namespaces and volumes of theirs."""
    modes = (joined(mode) for mode in (service.network_mode, service.pid, service.ipc))
    sources = (text.partition(":")[0] for text in service.volumes_from if not text.startswith("container:"))
    return tuple(dict.fromkeys(name for name in (*modes, *sources) if name))


def container_labels(project: Project, service: Service, number: int, *, image_id: str) -> dict[str, str]:
    """Return the labels of a service's container, those of the file included."""
    dependencies = (
        f"{name}:{each.condition.value}:{str(each.restart).lower()}" for name, each in service.depends_on.items()
    )
    return {
        **service.labels,
        **_project_labels(project),
        SERVICE: service.name,
        NUMBER: str(number),
        ONE_OFF: "False",
        CONFIG_HASH: config_hash(project, service),
        IMAGE: image_id,
        DEPENDS_ON: ",".join(dependencies),
        WORKING_DIRECTORY: project.working_directory,
        CONFIG_FILES: ",".join(project.files),
    }


def network_labels(project: Project, network: Network) -> dict[str, str]:
    """Return the labels of a project's network."""
    return {**network.labels, **_project_labels(project), NETWORK: network.key, CONFIG_HASH: settings_hash(network)}


def volume_labels(project: Project, volume: Volume) -> dict[str, str]:
    """Return the labels of a project's volume."""
    return {**volume.labels, **_project_labels(project), VOLUME: volume.key, CONFIG_HASH: settings_hash(volume)}


def _project_labels(project: Project) -> dict[str, str]:
    return {PROJECT: project.name, VERSION: lab.__version__}


def config_hash(project: Project, service: Service) -> str:
    """Return what changes when a service's containers have to be made anew.

    How many there are, how their image comes about and what they wait for does not matter; what configs and secrets
    hold that compose itself writes does.
    """
    plain = replace(
        service,
        build=None,
        pull_policy="",
        scale=None,
        depends_on={},
        profiles=(),
        env_files=(),  # whose content is in the environment
        attach=True,
        watch=(),
        deploy=replace(service.deploy, replicas=None) if service.deploy != Deploy() else service.deploy,
        image=image_name(project, service),
    )
    written = [codec.encode(each) for each in _written(project, service)]
    addresses = {key: network.name for key, network in project.networks.items() if key in service.networks}
    return _digest([codec.encode(plain), written, addresses])


def _written(project: Project, service: Service) -> tuple[FileObject, ...]:
    """Return the configs and secrets of a service with their content in place of the variable that has it."""
    objects = [project.configs[each.source] for each in service.configs if each.source in project.configs]
    objects += [project.secrets[each.source] for each in service.secrets if each.source in project.secrets]
    return tuple(
        replace(each, content=content_of(project.environment, each)) if not each.file else each for each in objects
    )


def content_of(environment: Mapping[str, str], each: FileObject) -> str:
    """Return what a config or secret without a file holds."""
    return each.content if each.content is not None else environment.get(each.environment, "")


def settings_hash(subject: Network | Volume) -> str:
    """Return what changes when a network or a volume would have to be made anew."""
    return _digest(codec.encode(replace(subject, labels={})))


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
