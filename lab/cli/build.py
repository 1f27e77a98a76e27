"""`lab build`: an image from a Dockerfile."""

from __future__ import annotations

import argparse
import os
import sys

from lab.cli.build_output import BuildOutput, ProgressMode
from lab.container.defaults import ContainerNetwork
from lab.container.engine import Engine
from lab.container.image.build import BuildRequest, build
from lab.container.image.build_context import ContextSource
from lab.container.image.build_run import Surroundings
from lab.container.image.reference import parse_reference
from lab.errors import EXIT_OK
from lab.paths import Paths

EPILOG = """examples:
  sudo lab build -t app .                      an image called app:latest from ./Dockerfile
  sudo lab build -t app --target tests .       only the stage "tests", and what it needs
  sudo lab build -q -f other.Dockerfile .      print the image's id and nothing else

The exit code is that of a RUN command that failed, 1 for any other fault."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.epilog = EPILOG
    parser.add_argument("context", metavar="PATH", help="the directory that COPY takes files from")
    parser.add_argument("-f", "--file", metavar="FILE", default="", help="the Dockerfile (default: PATH/Dockerfile)")
    parser.add_argument("-t", "--tag", metavar="NAME", action="append", default=[], help="the image's name; repeatable")
    parser.add_argument("--build-arg", metavar="NAME[=VALUE]", action="append", default=[], help="value of an ARG")
    parser.add_argument("--target", metavar="STAGE", default="", help="build this stage, by name or number")
    parser.add_argument("--label", metavar="NAME=VALUE", action="append", default=[], help="set a label")
    parser.add_argument(
        "--network", choices=("default", "bridge", "none", "host"), default="default", help="network of RUN"
    )
    parser.add_argument("--no-cache", action="store_true", help="make every step anew")
    parser.add_argument("--iidfile", metavar="FILE", default="", help="write the image's id to FILE")
    parser.add_argument("-q", "--quiet", action="store_true", help="print the image's id only")
    parser.add_argument("--progress", choices=tuple(ProgressMode), default="auto", help="how progress is shown")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Build, and return the exit code."""
    request = _request(arguments)
    told = BuildOutput(ProgressMode.QUIET if arguments.quiet else ProgressMode(arguments.progress))
    with Engine(paths) as engine:
        image = build(paths, engine, request, told)
    if arguments.iidfile:
        with open(arguments.iidfile, "w", encoding="ascii") as file:
            file.write(image.config_digest)
    told.built(image.config_digest, request.names)
    return EXIT_OK


def _request(arguments: argparse.Namespace) -> BuildRequest:
    network = {"none": ContainerNetwork.NONE}.get(arguments.network, ContainerNetwork.BRIDGE)
    build_args = dict(item for text in arguments.build_arg if (item := _build_arg(text)))
    return BuildRequest(
        context=ContextSource(location=arguments.context, dockerfile=arguments.file, stdin=sys.stdin.buffer),
        names=tuple(parse_reference(name).familiar for name in arguments.tag),
        target=arguments.target,
        build_args=build_args,
        labels=dict(text.partition("=")[::2] for text in arguments.label),
        use_cache=not arguments.no_cache,
        surroundings=Surroundings(network=network),
    )


def _build_arg(text: str) -> tuple[str, str] | None:
    """Return a name and its value, which is that of the environment if none is given; None if it has none either."""
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    return (name, os.environ[name]) if name in os.environ else None
