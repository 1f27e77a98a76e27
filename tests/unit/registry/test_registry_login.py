"""Logging in, tokens of several kinds, searching: against a real HTTP server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from unit.registry.scripted import Reply, Scripted, Seen, Watched, scripted_registry, session_with

from lab.container.image.platforms import parse_platform
from lab.container.image.reference import parse_reference
from lab.container.image.store import ImageStore
from lab.container.registry.credentials import Credential
from lab.container.registry.login import log_in, log_out, registry_name
from lab.container.registry.pull import Pull, pull
from lab.container.registry.search import search
from lab.errors import RegistryError, SpecError


@pytest.fixture
def registry() -> Iterator[Scripted]:
    with scripted_registry() as found:
        yield found


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _wants_basic(seen: Seen) -> Reply | None:
    if seen.headers.get("authorization") == _basic("user", "pw"):
        return None
    return Reply(
        status=401, headers={"WWW-Authenticate": 'Basic realm="r"'}, body=b'{"errors":[{"code":"UNAUTHORIZED"}]}'
    )


class TokenServer:
    """Gives tokens beside a registry, at its /token, and refresh tokens to those who ask for them."""

    def __init__(self, registry: Scripted) -> None:
        self.host = registry.host
        self.queries: list[dict[str, list[str]]] = []
        self.refresh_token = ""
        self.valid = "t1"

    def __call__(self, seen: Seen) -> Reply | None:
        if seen.path.startswith("/token"):
            return self._give(seen)
        if seen.headers.get("authorization") == f"Bearer {self.valid}":
            return None
        challenge = f'Bearer realm="http://{self.host}/token?x=1",service="svc"'
        return Reply(status=401, headers={"WWW-Authenticate": challenge})

    def _give(self, seen: Seen) -> Reply:
        if seen.method == "POST":
            form = parse_qs(seen.body.decode())
            self.queries.append(form)
            is_right = form["refresh_token"] == [self.refresh_token]
            return Reply(body=json.dumps({"access_token": self.valid}).encode()) if is_right else Reply(status=401)
        query = parse_qs(urlsplit(seen.path).query)
        self.queries.append(query)
        given = seen.headers.get("authorization")
        if given not in (None, _basic("user", "pw")):
            return Reply(status=401, body=b'{"details":"incorrect username or password"}')
        refresh = {"refresh_token": self.refresh_token} if "offline_token" in query else {}
        return Reply(body=json.dumps({"token": self.valid, **refresh}).encode())


def test_a_credential_is_tried_before_it_is_kept(registry: Scripted, tmp_path: Path) -> None:
    registry.fault = _wants_basic
    with session_with(tmp_path) as session:
        with pytest.raises(RegistryError, match="answered 401: unauthorized"):
            log_in(session, registry.host, Credential(user="user", password="wrong"))
        assert not session.credentials.get(registry.host)
        log_in(session, registry.host, Credential(user="user", password="pw"))
        assert session.credentials.get(registry.host).user == "user"
        assert log_out(session, registry.host)
        assert not log_out(session, registry.host)


def test_an_identity_token_is_kept_where_the_token_server_gives_one_and_used_from_then_on(
    registry: Scripted, tmp_path: Path
) -> None:
    server = registry.fault = TokenServer(registry)
    server.refresh_token = "long-lived"
    digest, _ = registry.add_image("1", "a")
    with session_with(tmp_path) as session:
        kept = log_in(session, registry.host, Credential(user="user", password="pw"))
        assert kept == Credential(user="user", identity_token="long-lived")
        assert session.credentials.get(registry.host) == kept
        assert server.queries[0]["account"] == ["user"]
        assert server.queries[0]["x"] == ["1"]
        wanted = Pull(
            reference=parse_reference(f"{registry.host}/app:1"),
            platform=parse_platform("linux/amd64", architecture="amd64"),
            unpack=False,
        )
        assert pull(session, ImageStore(str(tmp_path / "images")), wanted, Watched()).digest == digest
    assert server.queries[1]["grant_type"] == ["refresh_token"]
    assert server.queries[1]["scope"] == ["repository:app:pull"]
    assert server.queries[1]["service"] == ["svc"]


def test_a_public_image_needs_a_token_but_no_credential(registry: Scripted, tmp_path: Path) -> None:
    server = registry.fault = TokenServer(registry)
    registry.add_image("1", "a", "b", "c")
    wanted = Pull(
        reference=parse_reference(f"{registry.host}/app:1"),
        platform=parse_platform("linux/amd64", architecture="amd64"),
        unpack=False,
    )
    with session_with(tmp_path) as session:
        pull(session, ImageStore(str(tmp_path / "images")), wanted, Watched())
    assert [query["scope"] for query in server.queries] == [["repository:app:pull"]]
    assert "account" not in server.queries[0]


def test_a_token_that_runs_out_in_the_middle_is_renewed(registry: Scripted, tmp_path: Path) -> None:
    server = TokenServer(registry)
    _, layers = registry.add_image("1", "a", "b", "c", "d")

    def runs_out(seen: Seen) -> Reply | None:
        if layers[1] in seen.path and server.valid == "t1":
            server.valid = "t2"
        return server(seen)

    registry.fault = runs_out
    wanted = Pull(
        reference=parse_reference(f"{registry.host}/app:1"),
        platform=parse_platform("linux/amd64", architecture="amd64"),
        unpack=False,
    )
    with session_with(tmp_path) as session:
        assert pull(session, ImageStore(str(tmp_path / "images")), wanted, Watched()).is_new
    assert len(server.queries) == 2


def test_a_wrong_password_is_told_by_the_token_server(registry: Scripted, tmp_path: Path) -> None:
    registry.fault = TokenServer(registry)
    with session_with(tmp_path) as session, pytest.raises(RegistryError, match="incorrect username or password"):
        log_in(session, registry.host, Credential(user="user", password="hunter2"))
    assert not (tmp_path / "docker").exists()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "docker.io"),
        ("docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry.example:5000", "registry.example:5000"),
        ("https://registry.example/v2/", "registry.example"),
    ],
)
def test_a_server_is_named_in_several_ways(text: str, name: str) -> None:
    assert registry_name(text) == name


@pytest.mark.parametrize("text", ["https://", "user:pw@host", "a b", "/x"])
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="not a registry"):
        registry_name(text)


def test_a_registry_with_dockers_search_is_searched(registry: Scripted, tmp_path: Path) -> None:
    results = {"results": [{"name": "app", "description": "An app", "star_count": 7, "is_official": True}]}
    registry.fault = lambda seen: (
        Reply(body=json.dumps(results).encode()) if seen.path.startswith("/v1/search") else None
    )
    with session_with(tmp_path) as session:
        (found,) = search(session, registry.host, "a p&p", limit=3)
    assert (found.name, found.description, found.stars, found.is_official) == ("app", "An app", 7, True)
    assert [seen.path for seen in registry.asked("GET", "/v1/")] == ["/v1/search?q=a+p%26p&n=3"]


def test_a_registry_without_search_is_searched_by_its_catalogue(registry: Scripted, tmp_path: Path) -> None:
    def catalogue(seen: Seen) -> Reply | None:
        if not seen.path.startswith("/v2/_catalog"):
            return None
        if "last=" in seen.path:
            return Reply(body=b'{"repositories":["team/nginx","zoo"]}')
        return Reply(
            body=b'{"repositories":["Nginx-extra","other"]}', headers={"Link": '</v2/_catalog?last=o>; rel="next"'}
        )

    registry.fault = catalogue
    with session_with(tmp_path) as session:
        whole = [f"{registry.host}/{name}" for name in ("Nginx-extra", "team/nginx")]
        assert [each.name for each in search(session, registry.host, "nginx", limit=9)] == whole
        assert [each.name for each in search(session, registry.host, "nginx", limit=1)] == whole[:1]


def test_a_registry_that_has_neither_is_told_as_that(registry: Scripted, tmp_path: Path) -> None:
    with session_with(tmp_path) as session, pytest.raises(RegistryError, match="can neither be searched nor lists"):
        search(session, registry.host, "a", limit=9)
