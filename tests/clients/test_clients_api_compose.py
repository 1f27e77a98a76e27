"""docker-compose 1.29, unmodified, on `lab serve`: a system of several services from `up` to `down`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from kernel.api.conftest import Server
from kernel.examples.conftest import base_archive
from kernel.examples.walkthrough import bases_of
from processes import wait_until

__all__ = ["base_archive"]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_COMPOSE = shutil.which("docker-compose") or ""
pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("root"),
    pytest.mark.needs("overlay"),
    pytest.mark.needs("docker"),
    pytest.mark.skipif(not _COMPOSE, reason="docker-compose is not installed: apt-get install docker-compose"),
]

_TIMEOUT_S = 100
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_FILES = {
    "docker-compose.yml": """
version: "2.4"
services:
  db:
    image: busybox
    init: true
    command: sh -c "echo db is up; touch /data/ready; exec httpd -f -p 8000 -h /data"
    volumes: [data:/data]
    healthcheck: {test: [CMD, test, -e, /data/ready], interval: 1s, timeout: 1s, retries: 5}
  web:
    init: true
    build: {context: web, args: {WHO: compose}}
    depends_on: {db: {condition: service_healthy}}
    environment: [A=1]
    env_file: web.env
    links: ["db:store"]
    ports: ["127.0.0.1:0:80"]
    networks: {front: {aliases: [www]}, default: {}}
    stdin_open: true
    tty: true
  tool:
    image: busybox
    command: "true"
    networks: [front]
networks: {front: {}}
volumes: {data: {}}
""",
    "web/Dockerfile": """
FROM busybox
ARG WHO
RUN echo built by $WHO > /index.html
CMD ["sh", "-c", "echo web is up; exec httpd -f -p 80 -h /"]
""",
    "web.env": "FROM_FILE=yes\n",
}

Compose = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def compose(served: Server, tmp_path: Path) -> Iterator[Compose]:
    """Return what runs docker-compose in a directory of its own, and take down what it has made."""
    project = tmp_path / "system"
    for name, text in _FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            _argv(*words), cwd=project, env=_environment(served), capture_output=True, text=True, timeout=_TIMEOUT_S
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done

    yield run
    run("down", "-v", "--rmi", "local", "--remove-orphans")


def _argv(*words: str) -> Sequence[str]:
    return (_COMPOSE, "--ansi", "never", *words)


def _environment(server: Server) -> dict[str, str]:
    return {**os.environ, **server.environment, "COMPOSE_PROJECT_NAME": "system", "PYTHONUNBUFFERED": "1"}


def test_a_system_is_built_brought_up_used_changed_and_taken_down(compose: Compose, served: Server) -> None:
    assert sorted(compose("config", "--services").stdout.split()) == ["db", "tool", "web"]
    built = compose("up", "-d", "--build")
    assert "Successfully tagged system_web:latest" in built.stdout
    states = compose("ps").stdout
    assert re.search(r"system_db_1 .*Up \(healthy\)", states)
    assert re.search(r"system_web_1 .*Up .*127\.0\.0\.1:\d+->80/tcp", states)
    assert re.search(r"system_tool_1 .*Exit 0", states)
    logs = _COLOUR.sub("", compose("logs").stdout)
    assert re.search(r"db_1 +\| db is up", logs)
    assert re.search(r"web_1 +\| web is up", logs)
    inside = "echo $A $FROM_FILE; wget -qO- http://store:8000/ready && wget -qO- http://db:8000/ready && echo both"
    assert compose("exec", "-T", "web", "sh", "-c", inside).stdout == "1 yes\nboth\n"
    assert compose("run", "--rm", "-T", "tool", "wget", "-qO-", "http://www").stdout == "built by compose\n"
    assert compose("run", "--rm", "-T", "-e", "X=7", "tool", "sh", "-c", "exit $X", code=7).stdout == ""
    assert compose("port", "web", "80").stdout.startswith("127.0.0.1:")
    assert "httpd -f -p 8000" in compose("top", "db").stdout
    assert "system_web" in compose("images").stdout
    for verb in ("pause", "unpause", "restart", "stop", "start", "kill"):
        compose(verb, *(("-t", "0") if verb in ("restart", "stop") else ()), "db")
    compose("rm", "-f", "db")
    again = compose("up", "-d", "--scale", "db=2")
    assert "Creating system_db_2" in again.stderr
    assert len(compose("ps", "-q", "db").stdout.split()) == 2
    assert "system_web_1 is up-to-date" in compose("up", "-d", "--scale", "db=2").stderr
    assert "system_db_2" not in compose("up", "-d", "--scale", "db=1").stdout
    compose("down", "-v", "--rmi", "local")
    assert served.ok("ps", "-aq") == ""
    assert served.ok("volume", "ls", "-q") == ""
    assert served.ok("network", "ls", "--format", "{{.Name}}").split() == ["bridge", "host", "none"]


def test_who_watches_a_system_sees_its_logs_and_ctrl_c_stops_it(
    compose: Compose, served: Server, tmp_path: Path
) -> None:
    compose("build", "-q")
    with subprocess.Popen(
        _argv("up", "-t", "0"),
        cwd=tmp_path / "system",
        env=_environment(served),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as client:
        assert client.stdout is not None
        shown = ""
        while "web is up" not in shown:
            line = client.stdout.readline()
            assert line, shown
            shown += line
        client.send_signal(signal.SIGINT)
        rest = client.stdout.read()
    assert "Gracefully stopping" in rest
    wait_until(lambda: served.ok("ps", "-q") == "")


def test_events_of_a_system_are_told(compose: Compose, served: Server, tmp_path: Path) -> None:
    compose("up", "-d", "db")
    argv = _argv("events", "--json", "db")
    with subprocess.Popen(
        argv, cwd=tmp_path / "system", env=_environment(served), stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout is not None
        try:
            time.sleep(1)  # the client gives no sign that it listens
            compose("restart", "-t", "0", "db")
            told: list[str] = []
            while "restart" not in told:
                told.append(json.loads(client.stdout.readline())["action"])
        finally:
            client.terminate()
    assert list(dict.fromkeys(told)) == ["kill", "die", "stop", "start", "restart"]


@pytest.mark.timeout(900)  # large images are loaded, built upon and removed
@pytest.mark.needs("mmdebstrap")
def test_the_example_goals_comes_up_by_its_own_file_and_keeps_its_data(
    served: Server, base_archive: Callable[[str], str], tmp_path: Path
) -> None:
    for base in bases_of("goals"):
        served.ok("load", "-q", "-i", base_archive(base))
    project = shutil.copytree(EXAMPLES / "goals", tmp_path / "goals")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**_environment(served), "PORT": str(port)}

    def compose(*words: str) -> None:
        argv = _argv("-f", "compose.yaml", *words)
        done = subprocess.run(argv, cwd=project, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S)
        assert done.returncode == 0, (words, done.stdout, done.stderr)

    def goals(*data: str) -> str:
        argv = ("curl", "-sf", "--retry", "20", "--retry-all-errors", "--retry-delay", "1", *data)
        done = subprocess.run((*argv, f"localhost:{port}/goals"), capture_output=True, text=True, timeout=_TIMEOUT_S)
        return done.stdout.strip()

    try:
        compose("up", "-d", "--build")
        assert goals() == '{"goals":[]}'
        assert goals("-d", "goal=Learn compose") == '{"stored":"1"}'
        compose("down")
        compose("up", "-d")
        assert goals() == '{"goals":["Learn compose"]}'
    finally:
        compose("down", "-v", "--rmi", "local")
        argv = ("docker", "rmi", *bases_of("goals"))
        subprocess.run(argv, env=served.environment, check=True, capture_output=True, timeout=300)
