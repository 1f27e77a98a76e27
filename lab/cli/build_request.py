"""What the flags of `lab build` ask for."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from lab.cli import output
from lab.cli.attachment import Relay, raw_terminal, terminal_size
from lab.cli.registry_pull import fetch
from lab.container.console import Pair
from lab.container.engine import Engine
from lab.container.etc_files import extra_host
from lab.container.host_trust import find_bundle, host_trust
from lab.container.image.build import BuildRequest
from lab.container.image.build_context import STDIN, ContextSource
from lab.container.image.build_run import Surroundings, network_of
from lab.container.image.reference import parse_reference
from lab.container.options.limits import ulimits
from lab.container.spawner_client import Stdio
from lab.errors import BuildFailed, SpecError
from lab.linux import pty
from lab.paths import Paths


def request_of(arguments: argparse.Namespace, paths: Paths) -> BuildRequest:
    """Return what to build, and how.

    Raises:
        SpecError: a flag's value is malformed.
        BuildFailed: flags contradict each other.
    """
    build_args = _build_args(arguments.build_arg)
    return BuildRequest(
        context=ContextSource(location=arguments.context, dockerfile=arguments.file, stdin=sys.stdin.buffer),
        names=tuple(parse_reference(name).familiar for name in arguments.tag),
        target=arguments.target,
        platform=arguments.platform,
        build_args=build_args,
        labels=dict(text.partition("=")[::2] for text in arguments.label),
        use_cache=not arguments.no_cache,
        epoch_s=_epoch_s(build_args),
        secrets=dict(_secret(text) for text in arguments.secret),
        surroundings=_surroundings(arguments, paths),
        fetch=partial(fetch, paths, platform="", quiet=arguments.quiet),
        fetches_always=arguments.pull,
    )


def _surroundings(arguments: argparse.Namespace, paths: Paths) -> Surroundings:
    hosts = tuple(extra_host(text, gateway="") for text in arguments.add_host)
    if any(not address for _, address in hosts):
        raise BuildFailed("--add-host NAME:host-gateway is not possible in a build", hint="give the host's address")
    found = Surroundings(
        network=network_of(arguments.network),
        hosts=hosts,
        memory_bytes=arguments.memory,
        memory_swap_bytes=arguments.memory_swap,
        shm_bytes=arguments.shm_size,
        rlimits=ulimits(arguments.ulimit),
    )
    if arguments.on_failure == "shell":
        if STDIN in (arguments.context, arguments.file):
            raise BuildFailed("--on-failure shell needs standard input, which the context is read from")
        found = replace(found, on_failure=_stay_with, terminal=sys.stdin.isatty())
    if arguments.trust_host_ca:
        trust = host_trust(find_bundle(), os.path.join(paths.cache, "host-trust"))
        found = replace(found, mounts=trust.mounts, env=trust.env)
    return found


def _stay_with(engine: Engine, container_id: str) -> None:
    """Start a shell and connect this command's streams, or its terminal, to it until it ends."""
    output.note("the step has failed: this is a shell in it; `exit` ends the build")
    if not sys.stdin.isatty():
        engine.start(container_id, stdio=Stdio(stdin=0, stdout=1, stderr=2)).wait()
        return
    with Pair() as pair:
        running = engine.start(container_id, stdio=pair.stdio)
        master = pair.receive()
    if (size := terminal_size(sys.stdin.fileno())) is not None:
        pty.set_size(master, *size)
    relay = Relay()
    relay.input(sys.stdin.fileno(), os.dup(master))
    relay.output(master, sys.stdout.fileno())
    with raw_terminal(sys.stdin.fileno()):
        relay.run()
    running.wait()


def _build_args(texts: list[str]) -> Mapping[str, str]:
    """Return the arguments; one without value has that of the environment, or is none if that has none either."""
    found: dict[str, str] = {}
    if "SOURCE_DATE_EPOCH" in os.environ:
        found["SOURCE_DATE_EPOCH"] = os.environ["SOURCE_DATE_EPOCH"]
    for text in texts:
        name, equals, value = text.partition("=")
        if equals or name in os.environ:
            found[name] = value if equals else os.environ[name]
    return found


def _epoch_s(build_args: Mapping[str, str]) -> int | None:
    text = build_args.get("SOURCE_DATE_EPOCH", "")
    if text and not text.isdecimal():
        raise SpecError(f"SOURCE_DATE_EPOCH is not a number of seconds: {text!r}")
    return int(text) if text else None


def _secret(text: str) -> tuple[str, bytes]:
    """Return id and content of a secret: of a file, or of a variable of the environment."""
    fields = dict(item.partition("=")[::2] for item in text.split(","))
    name = fields.get("id", "")
    if not name or not set(fields) <= {"id", "src", "source", "env", "type"}:
        raise SpecError(f"not a secret: {text!r}", hint="--secret id=ID,src=FILE or --secret id=ID,env=NAME")
    path = fields.get("src") or fields.get("source")
    variable = fields.get("env") or (name if path is None and name in os.environ else "")
    if variable:
        if variable not in os.environ:
            raise SpecError(f"secret {name}: there is no variable {variable}")
        return name, os.environb[os.fsencode(variable)]
    try:
        with open(path or name, "rb") as file:
            return name, file.read()
    except OSError as error:
        raise SpecError(f"secret {name}: {error}") from error
