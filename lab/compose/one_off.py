"""The container of `compose run`: a service's, for one command; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lab.compose import naming
from lab.compose.model import Project, Service
from lab.compose.options import Place, options_of
from lab.container.options.run import RESTART_NEVER, RunOptions

_SLUG_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOff:
    """What `run` is asked for beyond the file: docker compose's flags; empty is "as the file says".

    ``entrypoint`` is None for the service's own. ``volumes`` and ``publish`` are texts as `lab run` takes them.
    """

    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    terminal: bool = False
    interactive: bool = True
    removes: bool = False
    service_ports: bool = False
    aliases: bool = False


def name_of(project: Project, service: Service, slug: str) -> str:
    """Return what the container is called if nobody says otherwise."""
    return f"{project.name}-{service.name}-run-{slug[:_SLUG_DIGITS]}"


def one_off_options(project: Project, service: Service, asked: OneOff, place: Place, *, slug: str) -> RunOptions:
    """Return what the container is created with: it is none of those that `up` counts, and nobody starts it again.

    Raises:
        SpecError: the service asks for what this engine does not have.
    """
    options = options_of(project, service, place)
    labels = {**options.labels, **asked.labels, naming.ONE_OFF: "True", naming.SLUG: slug}
    entrypoint = options.entrypoint if asked.entrypoint is None else asked.entrypoint
    keeps_command = not asked.command and asked.entrypoint is None
    return replace(
        options,
        command=options.command if keeps_command else asked.command,
        entrypoint=entrypoint,
        env=(*options.env, *asked.env),
        labels=labels,
        volumes=(*options.volumes, *asked.volumes),
        publish=(*(options.publish if asked.service_ports else ()), *asked.publish),
        endpoints=options.endpoints
        if asked.aliases
        else tuple(replace(each, aliases=(), address="", address6="", mac="") for each in options.endpoints),
        user=asked.user or options.user,
        workdir=asked.workdir or options.workdir,
        cap_add=(*options.cap_add, *asked.cap_add),
        cap_drop=(*options.cap_drop, *asked.cap_drop),
        terminal=asked.terminal,
        open_stdin=asked.interactive,
        removes=asked.removes,
        restart=RESTART_NEVER,
        restarts_most=0,
    )
