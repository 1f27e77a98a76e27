"""What a user should know before a plan is carried out, in docker compose's words; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from lab.compose import naming
from lab.compose.existing import Existing
from lab.compose.model import Project

_HINT_NETWORK = "Set `external: true` to use an existing network"
_HINT_VOLUME = "Use `external: true` to use an existing volume"


def warnings(
    project: Project, existing: Existing, services: Collection[str], *, removes_orphans: bool
) -> Iterator[str]:
    """Give what a user should know before the steps are carried out, in docker compose's words."""
    used = {key for name in services for key in project.services[name].networks}
    for key, network in project.networks.items():
        labels = existing.networks.get(network.name)
        if key in used and not network.external and labels is not None:
            yield from _network_warnings(project.name, network.name, labels)
    sources = {each.source for name in services for each in project.services[name].volumes}
    for key, volume in project.volumes.items():
        labels = existing.volumes.get(volume.name)
        if key in sources and not volume.external and labels is not None:
            yield from _volume_warnings(project.name, volume.name, labels)
    orphans = existing.orphans(project)
    if orphans and not removes_orphans:
        names = " ".join(sorted(each.name for each in orphans))
        yield (
            f"Found orphan containers ([{names}]) for this project. If you removed or renamed this service in your"
            " compose file, you can run this command with the --remove-orphans flag to clean it up."
        )


def _network_warnings(project: str, name: str, labels: Mapping[str, str]) -> Iterator[str]:
    if naming.PROJECT not in labels:
        yield f"a network with name {name} exists but was not created by compose.\n{_HINT_NETWORK}"
    elif labels[naming.PROJECT] != project:
        yield f'a network with name {name} exists but was not created for project "{project}".\n{_HINT_NETWORK}'


def _volume_warnings(project: str, name: str, labels: Mapping[str, str]) -> Iterator[str]:
    if naming.PROJECT not in labels:
        yield f'volume "{name}" already exists but was not created by Docker Compose. {_HINT_VOLUME}'
    elif labels[naming.PROJECT] != project:
        yield (
            f'volume "{name}" already exists but was created for project "{labels[naming.PROJECT]}"'
            f' (expected "{project}"). {_HINT_VOLUME}'
        )
