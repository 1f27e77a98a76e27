"""Against Debian's docker-registry: names, passwords, tokens, TLS, mounting, mirrors, and images that others made."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.containers.conftest import Lab
from kernel.registry.servers import (
    PASSWORD,
    USER,
    TokenServer,
    TunnelProxy,
    make_certificates,
    registry,
    with_password,
    with_tls,
)

pytestmark = [pytest.mark.root, pytest.mark.needs("docker-registry")]

ADDRESS = f"192.0.2.{os.getpid() % 250 + 1}"  # of TEST-NET-1: ours alone, and not loopback


@pytest.fixture
def address() -> Iterator[str]:
    """Return an address of this host that is not loopback."""
    subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
    yield ADDRESS
    subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=True)


def _login(lab: Lab, host: str, *flags: str, password: str = PASSWORD) -> tuple[int, str, str]:
    done = lab("login", "-u", USER, "--password-stdin", *flags, host, data=password.encode())
    return done.code, done.out, done.err


def test_what_is_pushed_is_pulled_and_run_elsewhere(lab: Lab, other: Lab, open_registry: str) -> None:
    name = f"{open_registry}/team/busybox:1"
    lab.ok("tag", "busybox", name)
    pushed = lab.ok("push", name)
    assert pushed.splitlines()[0] == f"The push refers to repository [{open_registry}/team/busybox]"
    assert ": Pushed" in pushed or ": Layer already exists" in pushed or ": Mounted from" in pushed
    digest = pushed.rpartition("digest: ")[2].partition(" ")[0]
    pulled = other.ok("pull", name).splitlines()
    assert pulled[0] == "1: Pulling from team/busybox"
    assert pulled[-3:] == [f"Digest: {digest}", f"Status: Downloaded newer image for {name}", name]
    assert other.ok("run", "--rm", name, "echo", "it runs") == "it runs"
    assert other.ok("inspect", "-f", "{{.RepoDigests}} {{.RepoTags}}", name) == (
        f"[{open_registry}/team/busybox@{digest}] [{name}]"
    )
    assert lab.ok("inspect", "-f", "{{.Id}}", name) == other.ok("inspect", "-f", "{{.Id}}", name)
    assert digest in other.ok("images", "--digests", "--no-trunc")
    assert f"Status: Image is up to date for {name}" in other.ok("pull", name)
    assert other.ok("pull", "-q", f"{open_registry}/team/busybox@{digest}") == f"{open_registry}/team/busybox@{digest}"


def test_a_layer_of_another_repository_is_mounted(lab: Lab, open_registry: str) -> None:
    for repository in ("mount/first", "mount/second"):
        lab.ok("tag", "busybox", f"{open_registry}/{repository}")
    lab.ok("push", f"{open_registry}/mount/first")
    pushed = lab.ok("push", f"{open_registry}/mount/second")
    assert pushed.splitlines()[0] == "Using default tag: latest"
    assert ": Mounted from " in pushed
    assert ": Layer already exists" in lab.ok("push", f"{open_registry}/mount/second")


def test_all_tags_are_pushed_and_pulled(lab: Lab, other: Lab, open_registry: str) -> None:
    for tag in ("a", "b"):
        lab.ok("tag", "busybox", f"{open_registry}/many:{tag}")
    assert lab.ok("push", "-a", f"{open_registry}/many").count("digest: ") == 2
    other.ok("pull", "-a", f"{open_registry}/many")
    assert sorted(other.ok("images", "--format", "{{.Tag}}", f"{open_registry}/many").split()) == ["a", "b"]


def test_a_registry_is_searched_by_its_catalogue(lab: Lab, open_registry: str) -> None:
    lab.ok("tag", "busybox", f"{open_registry}/found/me")
    lab.ok("push", "-q", f"{open_registry}/found/me")
    assert lab.ok("search", "--format", "{{.Name}}", f"{open_registry}/found") == f"{open_registry}/found/me"


def test_a_password_is_asked_for_tried_kept_and_forgotten(
    lab: Lab, other: Lab, tmp_path: Path, docker_config: Path
) -> None:
    with registry(tmp_path / "registry", settings=with_password(tmp_path / "registry")) as host:
        name = f"{host}/private:1"
        lab.ok("tag", "busybox", name)
        refused = lab("push", name)
        assert (refused.code, f"{host}: no basic auth credentials" in refused.err) == (1, True)
        assert f"lab login {host}" in refused.err
        code, _, err = _login(lab, host, password="wrong-secret")
        assert (code, "wrong-secret" in err) == (1, False)
        code, out, err = _login(lab, host)
        assert (code, out) == (0, "Login Succeeded\n")
        assert "WARNING! Your password will be stored unencrypted in" in err
        assert list(json.loads((docker_config / "config.json").read_text())["auths"]) == [host]
        lab.ok("push", name)
        other.ok("pull", name)
        assert lab.ok("login", host) == "Login Succeeded"
        assert lab.ok("logout", host) == f"Removing login credentials for {host}"
        assert lab.ok("logout", host) == f"Removing login credentials for {host}"
        assert lab("pull", name).code == 1


def test_a_password_in_an_argument_is_taken_with_a_warning(lab: Lab, tmp_path: Path) -> None:
    with registry(tmp_path / "registry", settings=with_password(tmp_path / "registry")) as host:
        done = lab("login", "-u", USER, "-p", PASSWORD, host)
        assert done.code == 0
        assert "WARNING! Using --password via the CLI is insecure. Use --password-stdin." in done.err
        assert PASSWORD not in done.err + done.out


def test_dockers_own_login_is_good_for_us_and_ours_for_skopeo(lab: Lab, tmp_path: Path, docker_config: Path) -> None:
    with registry(tmp_path / "registry", settings=with_password(tmp_path / "registry")) as host:
        skopeo = ("skopeo", "login", "--tls-verify=false", "-u", USER, "--password-stdin")
        file = str(docker_config / "config.json")
        docker_config.mkdir()
        subprocess.run([*skopeo, "--authfile", file, host], input=PASSWORD.encode(), check=True, capture_output=True)
        lab.ok("tag", "busybox", f"{host}/app")
        lab.ok("push", f"{host}/app")
        lab.ok("logout", host)
        assert _login(lab, host)[0] == 0
        inspect = ["skopeo", "inspect", "--tls-verify=false", "--authfile", file, f"docker://{host}/app"]
        assert subprocess.run(inspect, check=True, capture_output=True).stdout


def test_a_helper_keeps_the_credential_and_pulls_and_pushes_are_told_as_events(
    lab: Lab, tmp_path: Path, docker_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-kept"
    kept = tmp_path / "kept"
    helper.write_text(f"#!/bin/sh\ncase $1 in store) cat > {kept} ;; get) cat {kept} ;; erase) rm {kept} ;; esac\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    docker_config.mkdir()
    (docker_config / "config.json").write_text('{"credsStore": "kept"}')
    with registry(tmp_path / "registry", settings=with_password(tmp_path / "registry")) as host:
        code, _, err = _login(lab, host)
        assert (code, err) == (0, "")
        assert PASSWORD not in (docker_config / "config.json").read_text()
        lab.ok("tag", "busybox", f"{host}/app:1")
        lab.ok("push", f"{host}/app:1")
        lab.ok("pull", f"{host}/app:1")
        shown = lab.ok("events", "--since", "1m", "--until", "0s", "--format", "{{.Action}} {{.Actor.ID}}")
        assert {f"push {host}/app:1", f"pull {host}/app:1"} <= set(shown.splitlines())
        lab.ok("logout", host)
        assert not kept.exists()


def test_tokens_are_got_kept_and_refreshed(lab: Lab, other: Lab, tmp_path: Path, docker_config: Path) -> None:
    with (
        TokenServer(tmp_path / "tokens") as tokens,
        registry(tmp_path / "registry", settings=tokens.settings) as host,
    ):
        lab.ok("tag", "busybox", f"{host}/public/app")
        refused = lab("push", f"{host}/public/app")
        assert refused.code == 1
        assert f"lab login {host}" in refused.err
        assert "incorrect username or password" in _login(lab, host, password="wrong")[2]
        assert _login(lab, host)[0] == 0
        kept = json.loads((docker_config / "config.json").read_text())["auths"][host]
        assert kept["identitytoken"] == tokens.refresh_token
        tokens.grants.clear()
        lab.ok("push", f"{host}/public/app")
        lab.ok("tag", "busybox", f"{host}/secret/app")
        assert ": Mounted from public/app" in lab.ok("push", f"{host}/secret/app")
        assert set(tokens.grants) == {"refresh_token"}
        lab.ok("logout", host)
        other.ok("pull", f"{host}/public/app")
        assert other("pull", f"{host}/secret/app").code == 1
        assert tokens.grants[-1] == "anonymous"


def test_a_certificate_has_to_be_of_an_authority_that_is_trusted(
    lab: Lab, other: Lab, tmp_path: Path, address: str
) -> None:
    certificates = make_certificates(tmp_path, address)
    with registry(tmp_path / "registry", address=address, settings=with_tls(certificates)) as host:
        name = f"{host}/tls:1"
        lab.ok("tag", "busybox", name)
        refused = lab("push", name)
        assert refused.code == 1
        assert f"the certificate of {host} is not valid here" in refused.err
        assert f"certs.d/{host}/ca.crt" in refused.err
        directory = Path(lab.paths.certificates, host)
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes(certificates.authority.read_bytes())
        lab.ok("push", name)
        assert other("pull", name).code == 1
        other.ok("pull", "--insecure", name)


def test_a_registry_with_tls_is_reached_through_a_proxy_but_where_no_proxy_names_it(
    lab: Lab, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = make_certificates(tmp_path, address)
    with (
        registry(tmp_path / "registry", address=address, settings=with_tls(certificates)) as host,
        TunnelProxy() as proxy,
    ):
        name = f"{host}/proxied:1"
        directory = Path(lab.paths.certificates, host)
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes(certificates.authority.read_bytes())
        lab.ok("tag", "busybox", name)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace(PASSWORD, "wrong"))
        refused = lab("push", name)
        assert (refused.code, PASSWORD in refused.err, proxy.connected) == (1, False, [])
        assert f"cannot reach {host} through the proxy" in refused.err
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        lab.ok("push", name)
        assert set(proxy.connected) == {host}
        proxy.connected.clear()
        monkeypatch.setenv("NO_PROXY", "192.0.2.0/24")
        lab.ok("pull", name)
        assert proxy.connected == []


def test_plain_http_is_spoken_only_when_that_is_said(lab: Lab, other: Lab, tmp_path: Path, address: str) -> None:
    with registry(tmp_path / "registry", address=address) as host:
        name = f"{host}/plain:1"
        lab.ok("tag", "busybox", name)
        refused = lab("push", name)
        assert refused.code == 1
        assert f"{host} does not speak TLS" in refused.err
        assert "insecure-registries" in refused.err
        lab.ok("push", "--insecure", name)
        Path(other.paths.registries).write_text(json.dumps({"insecure-registries": ["192.0.2.0/24"]}))
        other.ok("pull", name)


def test_dockers_names_come_from_a_mirror(lab: Lab, other: Lab, open_registry: str) -> None:
    lab.ok("tag", "busybox", f"{open_registry}/library/mirrored")
    lab.ok("push", f"{open_registry}/library/mirrored")
    Path(other.paths.registries).write_text(json.dumps({"registry-mirrors": [f"http://{open_registry}"]}))
    for name in ("mirrored", "library/mirrored", "docker.io/mirrored", "docker.io/library/mirrored:latest"):
        assert other.ok("pull", "-q", name) == "docker.io/library/mirrored:latest"
    assert other.ok("images", "--format", "{{.Repository}}:{{.Tag}}") == "mirrored:latest"


def test_run_create_and_build_fetch_what_is_not_there(lab: Lab, other: Lab, open_registry: str) -> None:
    lab.ok("tag", "busybox", f"{open_registry}/fetched")
    lab.ok("push", f"{open_registry}/fetched")
    name = f"{open_registry}/fetched:latest"
    never = other("run", "--pull", "never", name, "true")
    assert (never.code, f"No such image: {name}" in never.err) == (125, True)
    done = other("run", "--rm", f"{open_registry}/fetched", "echo", "hi")
    assert (done.code, done.out) == (0, "hi\n")
    assert done.err.splitlines()[:2] == [
        f"Unable to find image '{name}' locally",
        "latest: Pulling from fetched",
    ]
    assert done.err.splitlines()[-1] == f"Status: Downloaded newer image for {name}"
    again = other("run", "--rm", name, "echo", "hi")
    assert (again.code, again.err) == (0, "")
    always = other("run", "--rm", "--pull", "always", name, "true")
    assert f"Status: Image is up to date for {name}" in always.err
    other.ok("rmi", "-f", name)
    quiet = other("create", "-q", name, "true")
    assert (quiet.code, quiet.err) == (0, "")
    other.ok("rm", quiet.out.strip())
    other.ok("rmi", "-f", name)
    dockerfile = f"FROM {name}\nRUN echo built > /built\n".encode()
    other.ok("build", "--network", "none", "-t", "made", "-", data=dockerfile)
    assert other.ok("run", "--rm", "made", "cat", "/built") == "built"
    fresh = other("build", "--network", "none", "--pull", "-t", "made", "-", data=dockerfile)
    assert f"Status: Image is up to date for {name}" in fresh.err
    missing = other("build", "-", data=f"FROM {open_registry}/nosuch\n".encode())
    assert missing.code == 1
    assert f"Dockerfile:1: manifest for {open_registry}/nosuch:latest not found" in missing.err


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize(("form", "compression"), [("oci", "gzip"), ("oci", "zstd"), ("v2s2", "gzip")])
def test_what_skopeo_pushes_is_pulled_and_run(
    lab: Lab, other: Lab, tmp_path: Path, form: str, compression: str
) -> None:
    archive = str(tmp_path / "busybox.tar")
    lab.ok("save", "-o", archive, "busybox")
    skopeo = ("skopeo", "copy", "-q", "--dest-tls-verify=false", "--format", form)
    skopeo = (*skopeo, "--dest-compress-format", compression, f"docker-archive:{archive}")
    with registry(tmp_path / "registry") as host:  # of its own: skopeo does not send a layer again that it knows there
        name, again = f"{host}/skopeo:1", f"{host}/again:1"
        subprocess.run([*skopeo, f"docker://{name}"], check=True, capture_output=True)
        assert other.ok("run", "--rm", name, "echo", "hi") == "hi"
        other.ok("tag", name, again)
        other.ok("push", again)
        assert _raw_manifest(again) == _raw_manifest(name)  # layers are not packed anew, so their digests stay
        assert (b"tar+zstd" in _raw_manifest(again)) == (compression == "zstd")


def _raw_manifest(name: str) -> bytes:
    inspect = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"]
    return subprocess.run(inspect, check=True, capture_output=True).stdout


@pytest.mark.needs("skopeo")
def test_what_is_pushed_is_what_skopeo_finds(lab: Lab, open_registry: str, tmp_path: Path) -> None:
    name = f"{open_registry}/for-skopeo:1"
    lab.ok("tag", "busybox", name)
    digest = lab.ok("push", name).rpartition("digest: ")[2].partition(" ")[0]
    inspect = ["skopeo", "inspect", "--tls-verify=false", f"docker://{name}"]
    found = json.loads(subprocess.run(inspect, check=True, capture_output=True).stdout)
    assert found["Digest"] == digest
    copy = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"dir:{tmp_path}/copy"]
    subprocess.run(copy, check=True, capture_output=True)  # which checks every digest
