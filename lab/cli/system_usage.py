"""`lab system df`, `lab system prune` and `lab container prune`: what takes the disk, and room made on it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

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
from lab.errors import EXIT_OK, StateConflict
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
{volumes}  - {images}
  - unused build cache
"""
_VOLUMES_WARNING = "  - all anonymous volumes not used by at least one container\n"
Rows = Iterable[Mapping[str, Value]]


def add_df(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `system df`."""
    parser.add_argument("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    parser.add_argument("-v", "--verbose", action="store_true", help="each image, container and volume")


def df(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show what takes how much of the disk."""
    with Containers(paths) as containers:
        usage = disk_usage.measure(containers)
        if arguments.verbose and not arguments.format:
            output.text("".join(_details(usage, containers)))
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


def _details(usage: Usage, containers: Containers) -> Iterator[str]:
    yield "Images space usage:\n\n"
    images = [row for each in usage.images for row in _image_rows(each, containers)]
    yield _table(
        ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"), images
    )
    yield "\nContainers space usage:\n\n"
    by_name = ImagesByName(containers)
    rows = [_container_row(each, by_name) for each in usage.containers]
    yield _table(("CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"), rows)
    yield "\nLocal Volumes space usage:\n\n"
    volumes = [(each.name, str(each.links), format_decimal_bytes(each.size_bytes)) for each in usage.volumes]
    yield _table(("VOLUME NAME", "LINKS", "SIZE"), volumes)
    yield f"\nBuild cache usage: {format_decimal_bytes(usage.cache_bytes, digits=_DIGITS)}\n"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    from lab.cli.columns import align

    return align("".join("\t".join(row) + "\n" for row in (headings, *rows)))


def _image_rows(found: ImageUsage, containers: Containers) -> Iterator[tuple[str, ...]]:
    image = found.image
    created_ns = instant_ns(image.config.created)
    age = "N/A" if created_ns is None else _ago(created_ns)
    sizes = (found.size_bytes, found.shared_bytes, found.size_bytes - found.shared_bytes)
    facts = (age, *map(format_decimal_bytes, sizes), str(found.containers))
    names = [name for name in containers.images.names_of(image) if not name.digest]
    called = [(name.repository, name.tag) for name in names] or [("<none>", "<none>")]
    for repository, tag in called:
        yield (repository, tag, image.config_digest.removeprefix("sha256:")[:SHORT], *facts)


def _container_row(found: ContainerUsage, images: ImagesByName) -> tuple[str, ...]:
    container = found.container
    return (
        container.id[:SHORT],
        image_shown(container, images, whole=False),
        command_shown(container.record.args, whole=False),
        str(found.volumes),
        format_decimal_bytes(found.size_bytes),
        _ago(container.record.created_ns),
        inspection.status_text(container, time.time_ns()),
        container.name,
    )


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
    """Remove what no container uses: stopped containers, images, the build cache."""
    filters = parse_filters(arguments.filter, _PRUNED)
    images = "all images without at least one container associated to them" if arguments.all else "all dangling images"
    volumes = _VOLUMES_WARNING if arguments.volumes else ""
    if not arguments.force and not output.confirmed(_WARNING.format(images=images, volumes=volumes)):
        return EXIT_OK
    with Containers(paths) as containers:
        freed = _prune_containers(containers, filters) + _prune_images(containers, filters, with_names=arguments.all)
    if arguments.volumes:
        of_labels = {name: values for name, values in filters.items() if name != "until"}
        freed += _prune_volumes(paths, of_labels)
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
