"""`lab compose`: systems of several containers from compose files, in docker compose's words."""

from __future__ import annotations

import argparse

from lab.cli.verbs import lazy

_UP = "lab.cli.compose_up"
_LIFE = "lab.cli.compose_life"
_INSIDE = "lab.cli.compose_inside"
_SHOW = "lab.cli.compose_show"
_IMAGE = "lab.cli.compose_image"

VERBS = {
    "up": lazy(_UP, "up", text="create and start containers", example="lab compose up -d --build"),
    "down": lazy(_LIFE, "down", text="stop and remove containers and networks", example="lab compose down -v"),
    "create": lazy(_UP, "create", text="create containers for services", example="lab compose create --build"),
    "start": lazy(_LIFE, "start", text="start services whose containers are there", example="lab compose start web"),
    "stop": lazy(_LIFE, "stop", text="stop services", example="lab compose stop -t 5 web"),
    "restart": lazy(_LIFE, "restart", text="stop services and start them again", example="lab compose restart web"),
    "kill": lazy(_LIFE, "kill", text="send a signal to services", example="lab compose kill -s HUP web"),
    "pause": lazy(_LIFE, "pause", text="freeze services", example="lab compose pause web"),
    "unpause": lazy(_LIFE, "unpause", text="let frozen services go on", example="lab compose unpause web"),
    "rm": lazy(_LIFE, "rm", text="remove containers that do not run", example="lab compose rm -f -s web"),
    "wait": lazy(
        _LIFE, "wait", text="wait until services end, and print their exit codes", example="lab compose wait web"
    ),
    "run": lazy(
        _INSIDE, "run", text="run a command in a new container of a service", example="lab compose run --rm web sh"
    ),
    "exec": lazy(_INSIDE, "exec", text="run a program in a container of a service", example="lab compose exec web sh"),
    "attach": lazy(_INSIDE, "attach", text="connect with a container of a service", example="lab compose attach web"),
    "cp": lazy(_INSIDE, "cp", text="copy files to and from a service", example="lab compose cp web:/etc/hosts ."),
    "logs": lazy(
        "lab.cli.compose_logs", "logs", text="show what services have written", example="lab compose logs -f web"
    ),
    "ps": lazy(_SHOW, "ps", text="list containers", example="lab compose ps -a --format json"),
    "ls": lazy("lab.cli.compose_projects", "ls", text="list projects", example="lab compose ls -a"),
    "images": lazy(_SHOW, "images", text="list the images of containers", example="lab compose images"),
    "top": lazy(_SHOW, "top", text="show the processes of services", example="lab compose top web"),
    "port": lazy(_SHOW, "port", text="show where a port is published", example="lab compose port web 80"),
    "events": lazy(_SHOW, "events", text="show what happens to containers", example="lab compose events --json"),
    "config": lazy(
        "lab.cli.compose_projects", "config", text="show the files as they are understood", example="lab compose config"
    ),
    "version": lazy(
        "lab.cli.compose_projects", "version", text="show the version", example="lab compose version --short"
    ),
    "build": lazy(_IMAGE, "build", text="build the images of services", example="lab compose build --no-cache web"),
    "pull": lazy(_IMAGE, "pull", text="fetch the images of services", example="lab compose pull --ignore-buildable"),
    "push": lazy(
        _IMAGE, "push", text="send the images of services to their registries", example="lab compose push web"
    ),
    "watch": lazy(
        "lab.cli.compose_watch",
        "watch",
        text="sync, restart or rebuild as files change",
        example="lab compose watch web",
    ),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that stand before the verb."""
    add = parser.add_argument
    add("-f", "--file", metavar="FILE", dest="files", action="append", default=[], help="a compose file; repeatable")
    add("-p", "--project-name", metavar="NAME", default="", help="what the project is called")
    add("--profile", metavar="NAME", dest="profiles", action="append", default=[], help="a profile; repeatable")
    add("--env-file", metavar="FILE", dest="project_env_files", action="append", default=[], help="in place of .env")
    add("--project-directory", metavar="DIR", default="", help="in place of the directory of the first file")
    add("--ansi", choices=("never", "always", "auto"), default="auto", help="when to use colours (%(default)s)")
    add("--progress", choices=("auto", "tty", "plain", "quiet"), default="auto", help="how progress is shown (auto)")
    add(
        "--parallel", metavar="N", type=int, default=-1, help="how much is done side by side; -1 for as much as is good"
    )
    add("--dry-run", action="store_true", help="only tell what would be done")
    add("--compatibility", action="store_true", help="accepted: names have hyphens all the same")
