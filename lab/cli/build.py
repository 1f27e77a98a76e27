"""`lab build`: an image from a Dockerfile."""

from __future__ import annotations

import argparse

from lab.cli.build_output import BuildOutput, ProgressMode
from lab.container.engine import Engine
from lab.errors import EXIT_OK
from lab.paths import Paths
from lab.units import parse_bytes

EPILOG = """examples:
  sudo lab build -t app .                      an image called app:latest from ./Dockerfile
  sudo lab build -t app --target tests .       only the stage "tests", and what it needs
  sudo lab build -q -f other.Dockerfile .      print the image's id and nothing else
  sudo lab build - < Dockerfile                without a context
  tar -c . | sudo lab build -t app -           an archive as the context
  sudo lab build --on-failure shell .          look around in the step that fails

The exit code is that of a RUN command that failed, 1 for any other fault."""


def add_build(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.epilog = EPILOG
    parser.add_argument(
        "context", metavar="PATH|URL|-", help="where COPY takes files from: a directory, a git or http(s) URL, or stdin"
    )
    _add_what(parser)
    _add_how(parser)
    _add_output(parser)


def _add_what(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-f", "--file", metavar="FILE", default="", help="the Dockerfile, - for stdin (default: PATH/Dockerfile)")
    add("-t", "--tag", metavar="NAME", action="append", default=[], help="a name for the image; repeatable")
    add("--target", metavar="STAGE", default="", help="build this stage, by name or number")
    add("--build-arg", metavar="NAME[=VALUE]", action="append", default=[], help="value of an ARG; repeatable")
    add("--label", metavar="NAME=VALUE", action="append", default=[], help="a label for the image; repeatable")
    add("--platform", metavar="PLATFORM", default="", help="accepted if it is this host's")


def _add_how(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--network", metavar="MODE", default="default", help="network of RUN: default or none")
    add("--add-host", metavar="NAME:IP", action="append", default=[], help="a line for /etc/hosts; repeatable")
    add("-m", "--memory", metavar="SIZE", type=parse_bytes, help="limit the memory of each RUN")
    add("--memory-swap", metavar="SIZE", type=parse_bytes, help="limit its memory and swap together")
    add("--shm-size", metavar="SIZE", type=parse_bytes, default=64 << 20, help="size of its /dev/shm (default: 64m)")
    add("--ulimit", metavar="NAME=SOFT[:HARD]", action="append", default=[], help="a resource limit; repeatable")
    add("--no-cache", action="store_true", help="make every step anew")
    add("--pull", action="store_true", help="fetch base images even if they are there: they may have changed")
    add("--secret", metavar="id=ID[,src=FILE|,env=NAME]", action="append", default=[], help="for --mount=type=secret")
    add("--trust-host-ca", action="store_true", help="let RUN trust whom this host trusts, behind a TLS proxy")
    add("--on-failure", choices=("stop", "shell"), default="stop", help="open a shell in the step that fails")
    for flag in ("--rm", "--force-rm", "--compress"):
        add(flag, action="store_true", help="accepted, without effect: no container is ever left")
    add("--cache-from", metavar="IMAGE", action="append", default=[], help="accepted, without effect")


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--iidfile", metavar="FILE", default="", help="write the image's id to FILE")
    add("-q", "--quiet", action="store_true", help="print the image's id only, and the output of a step that fails")
    add("--progress", choices=tuple(ProgressMode), default=ProgressMode.AUTO, help="how progress is shown")


def build(arguments: argparse.Namespace, paths: Paths) -> int:
    """Build an image, and return the exit code."""
    with Engine(paths) as engine:
        engine.warm_up()
        from lab.cli.build_request import request_of  # a tenth of a second, in which the spawner starts
        from lab.container.image.build import build as build_image

        request = request_of(arguments, paths)
        told = BuildOutput(ProgressMode.QUIET if arguments.quiet else ProgressMode(arguments.progress))
        image = build_image(paths, engine, request, told)
    if arguments.iidfile:
        with open(arguments.iidfile, "w", encoding="ascii") as file:
            file.write(image.config_digest)
    told.built(image.config_digest, request.names)
    return EXIT_OK
