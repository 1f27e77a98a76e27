"""`lab update`: change what is kept with containers while they live."""

from __future__ import annotations

import argparse

from lab.cli.run_flags import restart_policy
from lab.cli.container_life import add_names, each
from lab.container.containers import Containers
from lab.paths import Paths


def add_update(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `update`."""
    parser.add_argument(
        "--restart", metavar="POLICY", required=True, help="no, always, unless-stopped, on-failure[:TIMES]"
    )
    add_names(parser)


def update(arguments: argparse.Namespace, paths: Paths) -> int:
    """Give containers another restart policy."""
    policy, most = restart_policy(arguments.restart)
    with Containers(paths) as containers:
        return each(arguments.containers, lambda reference: containers.set_restart(reference, policy, most))
