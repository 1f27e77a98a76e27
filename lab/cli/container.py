"""`lab container`: all that is done with containers, in docker's words; each verb also stands alone (`lab run`)."""

from __future__ import annotations

from lab.cli.verbs import lazy

_CREATE = "lab.cli.container_create"
_LIFE = "lab.cli.container_life"
_SHOW = "lab.cli.container_show"
_FILES = "lab.cli.container_files"
_INSIDE = "lab.cli.container_inside"

VERBS = {
    "run": lazy(_CREATE, "run", text="create a container and run it", example="lab run --rm -it busybox sh"),
    "create": lazy(
        _CREATE, "create", text="create a container, to start it later", example="lab create --name web web"
    ),
    "start": lazy(_LIFE, "start", text="start containers that do not run", example="lab start -a web"),
    "stop": lazy(_LIFE, "stop", text="ask containers to end, and kill those that do not", example="lab stop -t 5 web"),
    "restart": lazy(_LIFE, "restart", text="stop containers and start them again", example="lab restart web"),
    "kill": lazy(_LIFE, "kill", text="send a signal to containers", example="lab kill -s HUP web"),
    "pause": lazy(_LIFE, "pause", text="freeze all processes of containers", example="lab pause web"),
    "unpause": lazy(_LIFE, "unpause", text="let frozen containers go on", example="lab unpause web"),
    "wait": lazy(_LIFE, "wait", text="wait until containers end, and print their exit codes", example="lab wait web"),
    "rm": lazy(_LIFE, "rm", text="remove containers", example="lab rm -f web"),
    "update": lazy(
        "lab.cli.container_update", "update", text="change containers", example="lab update --restart always web"
    ),
    "rename": lazy(_LIFE, "rename", text="give a container another name", example="lab rename web old-web"),
    "prune": lazy(
        "lab.cli.system_usage",
        "prune_containers",
        text="remove all containers that do not run",
        example="lab container prune --filter until=24h",
    ),
    "ls": lazy(
        _SHOW,
        "ps",
        text="list containers",
        example="lab ps -a --format '{{.Names}}: {{.Status}}'",
        aliases=("list", "ps"),
    ),
    "logs": lazy(
        f"{_SHOW}_logs", "logs", text="show what a container has written", example="lab logs -f --tail 10 web"
    ),
    "inspect": lazy(
        f"{_SHOW}_inspect",
        "inspect_container",
        text="show what is known of containers",
        example="lab container inspect -f '{{.State.Pid}}' web",
    ),
    "port": lazy(f"{_SHOW}_inspect", "port", text="show where ports are published", example="lab port web 80/tcp"),
    "top": lazy(f"{_SHOW}_top", "top", text="show a container's processes", example="lab top web -o pid,comm"),
    "stats": lazy(f"{_SHOW}_stats", "stats", text="show what containers use", example="lab stats --no-stream"),
    "cp": lazy(_FILES, "cp", text="copy files to and from containers", example="lab cp web:/etc/hosts ."),
    "diff": lazy(_FILES, "diff", text="show what a container has changed in its files", example="lab diff web"),
    "export": lazy(_FILES, "export", text="write a container's files as a tar", example="lab export -o web.tar web"),
    "commit": lazy(_FILES, "commit", text="make an image of a container's files", example="lab commit web web:v2"),
    "exec": lazy(_INSIDE, "exec", text="run a program in a running container", example="lab exec -it web sh"),
    "attach": lazy(_INSIDE, "attach", text="connect with a running container", example="lab attach web"),
}
