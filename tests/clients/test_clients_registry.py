"""What the lab pushes docker pulls and runs, and the other way round, on one registry; and both say the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.registry.servers import registry
from unit.registry.scripted import Reply, Seen, scripted_registry

from lab.paths import Paths

pytestmark = [pytest.mark.root, pytest.mark.needs("docker"), pytest.mark.needs("docker-registry")]

_VARYING = re.compile(r"sha256:[0-9a-f]{64}|\b[0-9a-f]{12}\b|size: [0-9]+")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return HOST:PORT of a registry, on loopback, which both take without TLS."""
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def argvs(docker: str, lab_paths: Paths) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the beginnings of both engines' command lines."""
    return ("docker", "-H", docker), (sys.executable, "-m", "lab", "--root", lab_paths.root)


def _ok(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done)
    return done.stdout


@pytest.mark.parametrize(("pusher", "puller"), [(0, 1), (1, 0)], ids=["docker to lab", "lab to docker"])
def test_what_one_pushes_the_other_pulls_and_runs(
    argvs: tuple[tuple[str, ...], ...], host: str, pusher: int, puller: int
) -> None:
    name = f"{host}/crossed:{pusher}"
    _ok(*argvs[pusher], "tag", "busybox", name)
    _ok(*argvs[pusher], "push", name)
    try:
        assert _ok(*argvs[puller], "run", "--rm", "--network", "none", name, "echo", "hi") == "hi\n"
        ids = [_ok(*argv, "inspect", "-f", "{{.Id}} {{.RepoDigests}}", name) for argv in argvs]
        assert ids[0] == ids[1]
    finally:
        for argv in argvs:
            _ok(*argv, "rmi", "-f", name)


def test_both_say_the_same_of_a_push_and_a_pull(argvs: tuple[tuple[str, ...], ...], host: str) -> None:
    said = []
    for number, argv in enumerate(argvs):
        name = f"{host}/said{number}/app:1"
        _ok(*argv, "tag", "busybox", name)
        text = _ok(*argv, "push", name)
        _ok(*argv, "rmi", name)
        text += _ok(*argv, "pull", name) + _ok(*argv, "pull", "-q", name)
        missing = subprocess.run([*argv, "pull", f"{name}x"], capture_output=True, text=True, check=False)
        text += f"{missing.returncode} {'not found: manifest unknown' in missing.stderr}"
        _ok(*argv, "rmi", name)
        said.append(_VARYING.sub("…", text).replace(f"said{number}", "said"))
    assert _set(said[0]) == _set(said[1])


def _set(text: str) -> list[str]:
    """Return the lines without those that tell of how the layer was sent or found, which depends on what was before."""
    return [line for line in text.splitlines() if not line.startswith("…: ")]


_RESULTS = (
    {"name": "app", "description": "An app " + 50 * "x", "star_count": 3, "is_official": True, "is_automated": False},
    {"name": "me/app", "description": "Two\nlines", "star_count": 12, "is_official": False, "is_automated": True},
    {"name": "my/app", "description": "", "star_count": 0, "is_official": False, "is_automated": False},
)


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--no-trunc",),
        ("--limit", "2"),
        ("--filter", "stars=3"),
        ("-f", "is-official=true"),
        ("-f", "is-automated=false", "-f", "stars=1"),
        ("--format", "{{.Name}}|{{.StarCount}}|{{.IsOfficial}}|{{.Description}}"),
        ("--format", "table {{.Name}}\t{{.IsOfficial}}"),
    ],
)
def test_both_find_the_same_where_a_registry_can_be_searched(
    argvs: tuple[tuple[str, ...], ...], flags: tuple[str, ...]
) -> None:
    def index(seen: Seen) -> Reply | None:
        if seen.path == "/v1/_ping":
            return Reply(body=b"true", headers={"X-Docker-Registry-Standalone": "true"})
        if not seen.path.startswith("/v1/search?"):
            return None
        limit = int(seen.path.rpartition("n=")[2])
        document = {"num_results": len(_RESULTS), "query": "app", "results": _RESULTS[:limit]}
        return Reply(body=json.dumps(document).encode(), headers={"Content-Type": "application/json"})

    with scripted_registry() as registry:
        registry.fault = index
        tables = [_ok(*argv, "search", *flags, f"{registry.host}/app") for argv in argvs]
        asked = [seen.path for seen in registry.asked("GET", "/v1/search")]
    assert [_columns(table) for table in tables] == [_columns(tables[0])] * 2
    assert len(asked) == 2


def _columns(table: str) -> list[str]:
    """Return the lines of a table, as wide as may be."""
    return [" ".join(line.split()) for line in table.splitlines()]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("pull", "{host}/nosuch"), 1, "manifest for {host}/nosuch:latest not found: manifest unknown"),
        (("pull", "UPPER"), 1, "repository name (library/UPPER) must be lowercase"),
        (("pull", "-a", "{host}/x:1"), 1, "tag can't be used with --all-tags/-a"),
        (("pull", "-a", "{host}/nosuch"), 1, "repository {host}/nosuch not found"),
        (("push", "{host}/nosuch:1"), 1, "An image does not exist locally with the tag: {host}/nosuch"),
        (("push", "-a", "{host}/nosuch"), 1, "An image does not exist locally with the tag: {host}/nosuch"),
        (("push", "a@sha256:" + "0" * 64), 1, "cannot push a digest reference"),
        (("run", "--network", "none", "{host}/nosuch"), 125, "Unable to find image '{host}/nosuch:latest' locally"),
        (("login", "-u", "a", "{host}"), 1, "Cannot perform an interactive login from a non TTY device"),
        (("login", "--password-stdin", "{host}"), 1, "requires --username to be set"),
        (("logout", "{host}"), 0, "Removing login credentials for {host}"),
    ],
)
def test_both_refuse_in_the_same_words(
    argvs: tuple[tuple[str, ...], ...],
    host: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for argv in argvs:
        given = [word.format(host=host) for word in words]
        done = subprocess.run([*argv, *given], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == code, done
        assert says.format(host=host) in done.stdout + done.stderr
