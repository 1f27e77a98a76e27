"""The image of a service that has a `build` section."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

from lab.compose.model import Build, FileReference, Project, Service
from lab.compose.naming import PROJECT, SERVICE, content_of, image_name
from lab.compose.plan import BuildWishes
from lab.container.engine import Engine
from lab.container.etc_files import extra_host
from lab.container.image.build import BuildRequest
from lab.container.image.build import build as build_image
from lab.container.image.build_context import STDIN, ContextSource
from lab.container.image.build_progress import Observer
from lab.container.image.build_run import Surroundings, network_of
from lab.container.image.reference import parse_reference
from lab.container.options.limits import ulimits
from lab.errors import SpecError
from lab.paths import Paths


def request(
    project: Project, service: Service, wishes: BuildWishes, fetch: Callable[[str], None] | None = None
) -> BuildRequest:
    """Return what is to be built for a service.

    Raises:
        SpecError: its section asks for what the builder does not have.
    """
    section = service.build
    assert section is not None, "only services with a build section are built"
    if section.additional_contexts:
        raise SpecError(f"service {service.name}: additional_contexts are not supported", hint="use COPY --from=IMAGE")
    names = (image_name(project, service), *section.tags)
    return BuildRequest(
        context=_context(section),
        names=tuple(parse_reference(name).familiar for name in names),
        target=section.target,
        platform=section.platforms[0] if section.platforms else service.platform,
        build_args={name: value for name, value in {**section.args, **wishes.args}.items() if value is not None},
        labels={**section.labels, PROJECT: project.name, SERVICE: service.name},
        use_cache=not (section.no_cache or wishes.no_cache),
        secrets={each.target or each.source: _secret(project, each) for each in section.secrets},
        surroundings=_surroundings(section),
        fetch=fetch,
        fetches_always=section.pull or wishes.pull,
    )


def _context(section: Build) -> ContextSource:
    if section.dockerfile_inline:
        text = io.BytesIO(section.dockerfile_inline.encode())
        return ContextSource(location=section.context, dockerfile=STDIN, stdin=text)
    is_here = os.path.isabs(section.context)
    file = os.path.join(section.context, section.dockerfile) if is_here else section.dockerfile
    return ContextSource(location=section.context, dockerfile=file)


def _secret(project: Project, reference: FileReference) -> bytes:
    subject = project.secrets[reference.source]
    if not subject.file:
        return content_of(project.environment, subject).encode()
    try:
        with open(subject.file, "rb") as file:
            return file.read()
    except OSError as error:
        raise SpecError(f"secret {reference.source}: {subject.file}: {error.strerror}") from error


def _surroundings(section: Build) -> Surroundings:
    hosts = tuple(extra_host(text, gateway="") for text in section.extra_hosts)
    if any(not address for _, address in hosts):
        raise SpecError("extra_hosts with host-gateway are not possible in a build", hint="give the host's address")
    limits = tuple(f"{name}={each.soft}:{each.hard}" for name, each in section.ulimits.items())
    found = Surroundings(network=network_of(section.network or "default"), hosts=hosts, rlimits=ulimits(limits))
    if section.shm_bytes is None:
        return found
    return Surroundings(network=found.network, hosts=hosts, rlimits=found.rlimits, shm_bytes=section.shm_bytes)


def build(paths: Paths, wanted: BuildRequest, observer: Observer) -> str:
    """Build an image and return its id; what it raises is said at ``image.build.build``."""
    with Engine(paths) as engine:
        engine.warm_up()
        return build_image(paths, engine, wanted, observer).config_digest
