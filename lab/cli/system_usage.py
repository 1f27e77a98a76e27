"""`lab system df`, `lab system prune` and `lab container prune`: what takes the disk, and room made on it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.cli import gotemplate, output
from lab.cli.container_show import SHORT, command_shown, image_shown
from lab.cli.list_flags import FORMAT_HELP, add_filter
from lab.cli.template_values import Value
from lab.container import disk_usage, inspection, pruning
from lab.container.containers import Containers
from lab.container.disk_usage import ContainerUsage, ImageUsage, Summary, Usage
from lab.container.image.build_cache import BuildCache
from lab.container.image.filters import instant_ns, parse_filters
from lab.container.listing import ImagesByName
from lab.errors import EXIT_OK, LabError, StateConflict
from lab.paths import Paths
from lab.units import format_age_ns, format_decimal_bytes

_DIGITS = 4
_SUMMARY_HEADINGS = {
    "Active": "ACTIVE",
    "Reclaimable": "RECLAIMABLE",
    "Size": "SIZE",
    "TotalCount": "TOTAL",
    "Type": "TYPE",
}
_SUMMARY = gotemplate.table(("{{.Type}}", "{{.TotalCount}}", "{{.Active}}", "{{.Size}}", "{{.Reclaimable}}"))
_PRUNED = ("label", "label!", "until")
_WARNING = """WARNING! This will remove:
  - all stopped containers
  - all networks not used by at least one container
{volumes}  - {images}
  - unused build cache
"""
_VOLUMES_WARNING = "  - all anonymous volumes not used by at least one container\n"
Rows = Sequence[Mapping[str, Value]]


def add_df(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `system df`."""
    parser.add_argument("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    parser.add_argument("-v", "--verbose", action="store_true", help="each image, container and volume")


def df(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show what takes how much of the disk."""
    with Containers(paths) as containers:
        usage = disk_usage.measure(containers)
        if arguments.verbose:
            details = _Details.of(usage, containers)
            output.text(details.as_text() if arguments.format in ("", "table") else details.rendered(arguments.format))
            return EXIT_OK
    rows = [_summary(each) for each in disk_usage.summarize(usage)]
    output.text(gotemplate.render_rows(arguments.format, rows, _SUMMARY_HEADINGS, default=_SUMMARY))
    return EXIT_OK


def _summary(found: Summary) -> dict[str, Value]:
    share = f" ({found.reclaimable_bytes * 100 // found.size_bytes}%)" if found.size_bytes else ""
    return {
        "Active": str(found.active),
        "Reclaimable": f"{format_decimal_bytes(found.reclaimable_bytes, digits=_DIGITS)}{share}",
        "Size": format_decimal_bytes(found.size_bytes, digits=_DIGITS),
        "TotalCount": str(found.total),
        "Type": found.kind,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Details:
    """Each image, container and volume as a row, by docker's names of its columns."""

    images: Rows
    containers: Rows
    volumes: Rows
    cache: str

    @classmethod
    def of(cls, usage: Usage, containers: Containers) -> _Details:
        by_name = ImagesByName(containers)
        return cls(
            images=[row for each in usage.images for row in _image_rows(each, containers)],
            containers=[_container_row(each, by_name) for each in usage.containers],
            volumes=[
                {"Name": each.name, "Links": str(each.links), "Size": format_decimal_bytes(each.size_bytes)}
                for each in usage.volumes
            ],
            cache=format_decimal_bytes(usage.cache_bytes, digits=_DIGITS),
        )

    def as_text(self) -> str:
        """Return docker's tables."""
        parts = (
            ("Images", _IMAGE_COLUMNS, self.images),
            ("Containers", _CONTAINER_COLUMNS, self.containers),
            ("Local Volumes", _VOLUME_COLUMNS, self.volumes),
        )
        tables = (
            f"{title} space usage:\n\n" + gotemplate.render_rows("", rows, columns, default=_table(columns))
            for title, columns, rows in parts
        )
        return "\n".join((*tables, f"Build cache usage: {self.cache}\n"))

    def rendered(self, template: str) -> str:
        """Return all of it as one document, by a template; docker ends it without a newline."""
        document = {
            "Images": self.images,
            "Containers": self.containers,
            "Volumes": self.volumes,
            "BuildCache": [{"ID": "steps", "CacheType": "regular", "Size": self.cache}],
        }
        return gotemplate.render_rows(template, [document], {}).removesuffix("\n")


def _table(columns: Iterable[str]) -> str:
    return gotemplate.table(f"{{{{.{name}}}}}" for name in columns)


_IMAGE_COLUMNS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
}
_CONTAINER_COLUMNS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "LocalVolumes": "LOCAL VOLUMES",
    "Size": "SIZE",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Names": "NAMES",
}
_VOLUME_COLUMNS = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}


def _image_rows(found: ImageUsage, containers: Containers) -> Iterator[dict[str, Value]]:
    image = found.image
    created_ns = instant_ns(image.config.created)
    facts: dict[str, Value] = {
        "ID": image.config_digest.removeprefix("sha256:")[:SHORT],
        "CreatedSince": "N/A" if created_ns is None else _ago(created_ns),
        "Size": format_decimal_bytes(found.size_bytes),
        "SharedSize": format_decimal_bytes(found.shared_bytes),
        "UniqueSize": format_decimal_bytes(found.size_bytes - found.shared_bytes),
        "Containers": str(found.containers),
    }
    names = [name for name in containers.images.names_of(image) if not name.digest]
    for repository, tag in [(name.repository, name.tag) for name in names] or [("<none>", "<none>")]:
        yield {"Repository": repository, "Tag": tag, **facts}


def _container_row(found: ContainerUsage, images: ImagesByName) -> dict[str, Value]:
    container = found.container
    return {
        "ID": container.id[:SHORT],
        "Image": image_shown(container, images, whole=False),
        "Command": command_shown(container.record.args, whole=False),
        "LocalVolumes": str(found.volumes),
        "Size": format_decimal_bytes(found.size_bytes),
        "RunningFor": _ago(container.record.created_ns),
        "Status": inspection.status_text(container, time.time_ns()),
        "Names": container.name,
    }


def _ago(instant: int) -> str:
    return f"{format_age_ns(time.time_ns() - instant)} ago"


def add_prune_containers(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `container prune`."""
    add = parser.add_argument
    add("-f", "--force", action="store_true", help="do not ask")
    add_filter(parser, names="until=TIME, label=KEY[=VALUE], label!=…")


def prune_containers(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove all containers that do not run."""
    filters = parse_filters(arguments.filter, _PRUNED)
    if not arguments.force and not output.confirmed("WARNING! This will remove all stopped containers."):
        return EXIT_OK
    with Containers(paths) as containers:
        _tell_freed(_prune_containers(containers, filters))
    return EXIT_OK


def add_prune(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `system prune`."""
    add_prune_containers(parser)
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="also images with a name that no container uses")
    add("--volumes", action="store_true", help="also anonymous volumes that no container has")


def prune(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove what no container uses: stopped containers, networks, images, the build cache."""
    filters = parse_filters(arguments.filter, _PRUNED)
    if arguments.volumes and "until" in filters:
        raise LabError('ERROR: The "until" filter is not supported with "--volumes"')
    images = "all images without at least one container associated to them" if arguments.all else "all dangling images"
    volumes = _VOLUMES_WARNING if arguments.volumes else ""
    if not arguments.force and not output.confirmed(_WARNING.format(images=images, volumes=volumes)):
        return EXIT_OK
    with Containers(paths) as containers:
        freed = _prune_containers(containers, filters)
        _tell("Deleted Networks:", pruning.prune_networks(containers, filters))
        if arguments.volumes:
            freed += _prune_volumes(paths, filters)
        freed += _prune_images(containers, filters, with_names=arguments.all)
    if not filters:
        freed += _prune_build_cache(paths)
    _tell_freed(freed)
    return EXIT_OK


def _tell_freed(size_bytes: int) -> None:
    output.line(f"Total reclaimed space: {format_decimal_bytes(size_bytes, digits=_DIGITS)}")


def _prune_containers(containers: Containers, filters: Mapping[str, Sequence[str]]) -> int:
    removed, freed = pruning.prune_containers(containers, filters)
    _tell("Deleted Containers:", removed)
    return freed


def _prune_images(containers: Containers, filters: Mapping[str, Sequence[str]], *, with_names: bool) -> int:
    removed = pruning.prune_images(containers.images, filters, with_names=with_names)
    lines = [*(f"untagged: {name}" for name in removed.untagged), *(f"deleted: {each}" for each in removed.deleted)]
    _tell("Deleted Images:", lines)
    return removed.freed_bytes


def _prune_volumes(paths: Paths, filters: Mapping[str, Sequence[str]]) -> int:
    removed, freed = pruning.prune_volumes(paths, filters, with_named=False)
    _tell("Deleted Volumes:", removed)
    return freed


def _prune_build_cache(paths: Paths) -> int:
    try:
        return BuildCache(paths.builds).prune()
    except StateConflict as error:
        output.note(f"the build cache stays: {error}")
        return 0


def _tell(title: str, lines: Sequence[str]) -> None:
    if lines:
        output.text("\n".join((title, *lines, "", "")))
