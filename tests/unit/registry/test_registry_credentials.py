"""Credentials in docker's configuration file, and with the helper programs that it names."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from lab.container.registry.credentials import Credential, CredentialFile
from lab.container.registry.hosts import DEFAULT_SERVER
from lab.errors import ContainerError, SpecError
from lab.paths import docker_config

HELPER = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$0 $*" >> calls
case "$1" in
    store) cat > store ;;
    get) cat > /dev/null
         [ -e store ] || { echo "credentials not found in native keychain"; exit 1; }
         cat store ;;
    erase) cat > /dev/null; rm store ;;
esac
"""


@pytest.fixture
def file(tmp_path: Path) -> CredentialFile:
    """Return docker's file in a directory that does not exist yet."""
    return CredentialFile(str(tmp_path / "docker" / "config.json"))


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a helper called "test", which is on the path."""
    program = tmp_path / "bin" / "docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program.parent


def _write(file: CredentialFile, document: object) -> None:
    Path(file.path).parent.mkdir(exist_ok=True)
    Path(file.path).write_text(json.dumps(document))


def test_a_password_is_kept_as_docker_keeps_it_and_readable_by_its_owner_only(file: CredentialFile) -> None:
    file.put("registry.example:5000", Credential(user="user", password="pass:word"))
    document = json.loads(Path(file.path).read_text())
    assert document == {"auths": {"registry.example:5000": {"auth": base64.b64encode(b"user:pass:word").decode()}}}
    assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
    assert file.get("registry.example:5000") == Credential(user="user", password="pass:word")


def test_an_identity_token_is_kept_instead_of_the_password(file: CredentialFile) -> None:
    file.put("r", Credential(user="user", password="secret", identity_token="token"))
    assert "secret" not in base64.b64decode(json.loads(Path(file.path).read_text())["auths"]["r"]["auth"]).decode()
    assert file.get("r") == Credential(user="user", identity_token="token")


def test_what_else_is_in_the_file_stays(file: CredentialFile) -> None:
    _write(file, {"HttpHeaders": {"X": "1"}, "auths": {"other": {"auth": base64.b64encode(b"a:b").decode()}}})
    file.put("r", Credential(user="u", password="p"))
    assert file.erase("r")
    document = json.loads(Path(file.path).read_text())
    assert document["HttpHeaders"] == {"X": "1"}
    assert list(document["auths"]) == ["other"]


def test_a_link_to_the_file_stays_a_link(file: CredentialFile, tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "real.json").write_text("{}")
    os.symlink(tmp_path / "real.json", file.path)
    file.put("r", Credential(user="u", password="p"))
    assert Path(file.path).is_symlink()
    assert "auths" in json.loads((tmp_path / "real.json").read_text())


def test_urls_of_older_files_mean_their_host(file: CredentialFile) -> None:
    entry = {"auth": base64.b64encode(b"old:pw").decode()}
    _write(
        file, {"auths": {"https://registry.example/v1/": entry, DEFAULT_SERVER: {"username": "hub", "password": "x"}}}
    )
    assert file.get("registry.example").user == "old"
    assert file.get(DEFAULT_SERVER) == Credential(user="hub", password="x")


def test_nobody_is_known_where_there_is_no_file(file: CredentialFile) -> None:
    assert not file.get("r")
    assert not file.erase("r")
    assert not os.path.exists(file.path)


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"r": {"auth": "%%%"}}}'])
def test_a_damaged_file_is_named_and_its_content_is_not_shown(file: CredentialFile, text: str) -> None:
    Path(file.path).parent.mkdir()
    Path(file.path).write_text(text)
    with pytest.raises(SpecError, match=r"config\.json") as caught:
        file.get("r")
    assert "%%%" not in str(caught.value)


def test_a_helper_keeps_the_secret_which_is_in_no_argument_and_not_in_the_file(
    file: CredentialFile, helper: Path
) -> None:
    _write(file, {"credHelpers": {"r:5000": "test"}})
    file.put("r:5000", Credential(user="user", password="hunter2"))
    assert file.get("r:5000") == Credential(user="user", password="hunter2")
    assert "hunter2" not in (helper / "calls").read_text()
    assert "hunter2" not in Path(file.path).read_text()
    assert file.helper("r:5000") == "test"
    assert file.erase("r:5000")
    assert not (helper / "store").exists()
    assert not file.get("r:5000")


def test_a_helper_gives_an_identity_token_under_a_name_of_its_own(file: CredentialFile, helper: Path) -> None:
    _write(file, {"credsStore": "test"})
    file.put("r", Credential(user="user", identity_token="long"))
    assert json.loads((helper / "store").read_text())["Username"] == "<token>"
    assert file.get("r") == Credential(identity_token="long")


def test_a_helper_that_is_missing_or_fails_is_named(file: CredentialFile, helper: Path) -> None:
    _write(file, {"credsStore": "nosuch"})
    with pytest.raises(ContainerError, match="docker-credential-nosuch is not installed"):
        file.get("r")
    (helper / "docker-credential-test").write_text("#!/bin/sh\ncat >/dev/null\necho locked\nexit 3\n")
    _write(file, {"credsStore": "test"})
    with pytest.raises(ContainerError, match="docker-credential-test get failed: locked"):
        file.get("r")


def test_a_helper_that_is_no_name_is_not_run(file: CredentialFile) -> None:
    _write(file, {"credsStore": "../../bin/sh"})
    with pytest.raises(SpecError, match="not the name of a credential helper"):
        file.get("r")


def test_a_credential_never_shows_its_secret() -> None:
    shown = repr(Credential(user="u", password="hunter2", identity_token="itoken", registry_token="rtoken"))
    assert not any(secret in shown for secret in ("hunter2", "itoken", "rtoken"))


def test_docker_config_moves_the_file() -> None:
    assert docker_config({"HOME": "/home/u"}) == "/home/u/.docker/config.json"
    assert docker_config({"HOME": "/home/u", "DOCKER_CONFIG": "/etc/d"}) == "/etc/d/config.json"
