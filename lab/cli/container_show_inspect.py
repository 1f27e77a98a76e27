"""`lab inspect`, `lab container inspect` and `lab port`: what is known of a container, all of it or its ports."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from lab.cli import go_types, gotemplate, output
from lab.container import inspecting, inspection, port_bindings
from lab.container.containers import Containers
from lab.container.image.description import inspect_document
from lab.errors import EXIT_FAILURE, EXIT_OK, ImageNotFound, LabError, NoSuchContainer, SpecError
from lab.paths import Paths

_TYPES = ("container", "image")

Find = Callable[[str], dict[str, object]]


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `inspect`, which looks for containers and images."""
    parser.add_argument("--type", choices=_TYPES, default=None, help="look only for these (default: all)")
    add_inspect_container(parser)


def add_inspect_container(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `container inspect`."""
    parser.add_argument("-f", "--format", default="", metavar="FORMAT", help="'json' or TEMPLATE")
    parser.add_argument("-s", "--size", action="store_true", help="also how much a container has written, and holds")
    parser.add_argument("names", metavar="NAME", nargs="+", help="name, id, or the beginning of an id")


def inspect(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show all that is known of containers and images."""
    return _inspect(arguments, paths, (arguments.type,) if arguments.type else _TYPES)


def inspect_container(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show all that is known of containers."""
    return _inspect(arguments, paths, ("container",))


def _inspect(arguments: argparse.Namespace, paths: Paths, kinds: tuple[str, ...]) -> int:
    """Show what is found; names that mean nothing do not keep the others from being shown."""
    documents, errors = [], []
    with Containers(paths) as containers:
        finders: dict[str, Find] = {
            "container": lambda name: inspecting.document(containers, name, sized=arguments.size),
            "image": lambda name: inspect_document(containers.images, containers.images.resolve(name)),
        }
        for name in arguments.names:
            try:
                documents.append(_first(name, tuple(finders[kind] for kind in kinds)))
            except (NoSuchContainer, ImageNotFound) as error:
                errors.append(error)
    output.text(gotemplate.render_documents(arguments.format, documents, as_go=go_types.container_or_image))
    for missing in errors:
        output.error(str(missing), hint=missing.hint)
    return EXIT_FAILURE if errors else EXIT_OK


def _first(name: str, finders: tuple[Find, ...]) -> dict[str, object]:
    for find in finders:
        try:
            return find(name)
        except (NoSuchContainer, ImageNotFound):
            if len(finders) == 1:
                raise
    raise NoSuchContainer(f"No such object: {name}", hint="lab ps -a; lab images")


def add_port(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `port`."""
    parser.add_argument("container", metavar="[add|rm] CONTAINER", help="name, id, or the beginning of an id")
    parser.add_argument(
        "port", metavar="PORT", nargs="*", help="only this port of the container; after add and rm, as --publish has it"
    )


def port(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show where a container's ports are published; or publish more, or fewer, while it runs."""
    if arguments.container in ("add", "rm") and len(arguments.port) > 1:
        return _change_ports(arguments.container, *arguments.port, paths=paths)
    if len(arguments.port) > 1:
        raise SpecError("lab port shows one port at a time", hint="lab port CONTAINER PORT")
    asked = "".join(arguments.port)
    with Containers(paths) as containers:
        bindings = inspection.bindings(containers.get(arguments.container))
    if not asked:
        for inner in sorted(bindings):
            for address in _addresses(bindings, inner):
                output.line(f"{inner} -> {address}")
        return EXIT_OK
    wanted = port_bindings.ports(asked)
    if len(wanted) != 1:
        raise SpecError(f"invalid port: {asked}", hint="such as 80/tcp")
    found = _addresses(bindings, wanted[0])
    if not found:
        raise LabError(f"No public port '{asked}' published for {arguments.container}")
    for address in found:
        output.line(address)
    return EXIT_OK


def _change_ports(verb: str, container: str, *texts: str, paths: Paths) -> int:
    from lab.container import port_changes  # `lab port` alone need not wait for it

    with Containers(paths) as containers:
        if verb == "rm":
            port_changes.remove(containers, container, texts)
            return EXIT_OK
        for inner, host in port_changes.add(containers, container, texts):
            output.line(f"{inner} -> {_shown(host)}")
    return EXIT_OK


def _addresses(bindings: port_bindings.Bindings, inner: port_bindings.ContainerPort) -> list[str]:
    return [_shown(host) for host in bindings.get(inner, ())]


def _shown(host: port_bindings.HostPort) -> str:
    address = f"[{host.address}]" if ":" in host.address else host.address
    return f"{address or port_bindings.ANY}:{host.number}"
