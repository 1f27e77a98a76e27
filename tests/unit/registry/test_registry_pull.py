"""Pulling from a registry that does what it should, and from many that do not."""

from __future__ import annotations

import base64
import errno
import os
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from unit.registry.scripted import INDEX, MANIFEST, Reply, Scripted, Seen, Watched, scripted_registry, session_with

from lab.container.image.platforms import parse_platform
from lab.container.image.reference import Reference, parse_reference
from lab.container.image.store import ImageStore
from lab.container.registry.credentials import Credential
from lab.container.registry.hosts import Proxies, Settings
from lab.container.registry.progress import Step
from lab.container.registry.pull import Pull, Pulled, all_tags, pull
from lab.container.storage.partial import PartialBlob
from lab.errors import ContainerError, DigestMismatch, KernelError, RegistryError

NOISE = random.Random(1).randbytes(400_000).hex()  # a layer that does not compress to nothing
AT_ONCE = {"Retry-After": "0"}


@pytest.fixture
def registry() -> Iterator[Scripted]:
    with scripted_registry() as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "images"))


def _pull(
    store: ImageStore,
    tmp_path: Path,
    name: str,
    *,
    watched: Watched | None = None,
    settings: Settings | None = None,
    platform: str = "",
    proxies: Proxies | None = None,
) -> Pulled:
    wanted = Pull(
        reference=parse_reference(name),
        platform=parse_platform(platform or "linux/amd64", architecture="amd64"),
        unpack=False,
    )
    with session_with(tmp_path, settings, proxies) as session:
        return pull(session, store, wanted, watched or Watched())


def _nothing_is_left(store: ImageStore) -> bool:
    return not os.path.exists(os.path.join(store.root, "index.json")) and not store.images()


def test_an_image_comes_with_its_layers_its_name_and_its_digest(
    registry: Scripted, store: ImageStore, tmp_path: Path
) -> None:
    digest, layers = registry.add_image("1", "a", "b")
    watched = Watched()
    pulled = _pull(store, tmp_path, f"{registry.host}/team/app:1", watched=watched)
    assert pulled.is_new
    assert pulled.digest == digest == pulled.image.manifest_digest
    assert [str(name) for name in store.names_of(pulled.image)] == [
        f"{registry.host}/team/app:1",
        f"{registry.host}/team/app@{digest}",
    ]
    assert watched.lines == ["1: Pulling from team/app"]
    for layer in layers:
        assert watched.steps_of(layer) == [
            Step.PULLING,
            Step.DOWNLOADING,
            Step.VERIFYING,
            Step.DOWNLOADED,
            Step.PULLED,
        ]
    assert all(error is None for _, error in store.verify())
    assert os.listdir(store.blobs.ingest) == []


def test_what_is_there_is_not_fetched_again(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    _, layers = registry.add_image("1", "a")
    _pull(store, tmp_path, f"{registry.host}/app:1")
    _, more = registry.add_image("2", "a", "b")
    registry.seen.clear()
    watched = Watched()
    assert not _pull(store, tmp_path, f"{registry.host}/app:1", watched=watched).is_new
    assert watched.steps == []
    _pull(store, tmp_path, f"{registry.host}/app:2", watched=watched)
    assert watched.steps_of(layers[0]) == [Step.EXISTS]
    fetched = [seen.path.rpartition("/")[2] for seen in registry.asked("GET", "/blobs/")]
    assert layers[0] not in fetched
    assert more[1] in fetched


def test_a_digest_pulls_that_very_image(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    digest, _ = registry.add_image("1", "a")
    registry.add_image("1", "other")
    pulled = _pull(store, tmp_path, f"{registry.host}/app@{digest}")
    assert pulled.image.manifest_digest == digest
    assert store.resolve(f"{registry.host}/app@{digest}").config_digest == pulled.image.config_digest


def _add_index(registry: Scripted, tag: str) -> dict[str, str]:
    digests = {
        architecture: registry.add_image(f"{tag}-{architecture}", architecture, architecture=architecture)[0]
        for architecture in ("arm64", "amd64")
    }
    entries = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": len(registry.manifests[digest][1]),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for architecture, digest in digests.items()
    ]
    digests["index"] = registry.add_manifest(tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    return digests


@pytest.mark.parametrize(("platform", "architecture"), [("", "amd64"), ("linux/arm64", "arm64"), ("amd64", "amd64")])
def test_of_an_index_the_image_for_the_platform_comes_and_the_digest_is_that_of_the_index(
    registry: Scripted, store: ImageStore, tmp_path: Path, platform: str, architecture: str
) -> None:
    digests = _add_index(registry, "1")
    pulled = _pull(store, tmp_path, f"{registry.host}/app:1", platform=platform)
    assert pulled.image.config.architecture == architecture
    assert pulled.image.manifest_digest == digests[architecture]
    assert pulled.digest == digests["index"]
    assert store.resolve(f"{registry.host}/app@{digests['index']}").manifest_digest == digests[architecture]


def test_a_platform_that_is_not_to_be_had_is_refused(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    _add_index(registry, "many")
    with pytest.raises(RegistryError, match="no matching manifest for linux/s390x"):
        _pull(store, tmp_path, f"{registry.host}/app:many", platform="linux/s390x")
    assert _nothing_is_left(store)


def test_all_tags_are_listed_over_pages(registry: Scripted, tmp_path: Path) -> None:
    def paged(seen: Seen) -> Reply | None:
        if "/tags/list" not in seen.path:
            return None
        if "last=" in seen.path:
            return Reply(body=b'{"name":"app","tags":["c"]}')
        link = {"Link": '</v2/app/tags/list?last=b&n=2>; rel="next"'}
        return Reply(body=b'{"name":"app","tags":["a","b"]}', headers=link)

    registry.fault = paged
    with session_with(tmp_path) as session:
        found = list(all_tags(session, Reference(registry=registry.host, path="app", tag="latest")))
    assert [each.tag for each in found] == ["a", "b", "c"]


def test_a_list_without_an_end_elsewhere_is_not_followed(registry: Scripted, tmp_path: Path) -> None:
    link = {"Link": '<http://198.51.100.1/v2/app/tags/list>; rel="next"'}
    registry.fault = lambda seen: Reply(body=b'{"tags":[]}', headers=link) if "/tags/" in seen.path else None
    with session_with(tmp_path) as session, pytest.raises(RegistryError, match="continues a list at 198"):
        list(all_tags(session, Reference(registry=registry.host, path="app", tag="latest")))


def test_an_image_that_another_has_replaced_is_dangling(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    registry.add_image("1", "a")
    old = _pull(store, tmp_path, f"{registry.host}/app:1").image
    registry.add_image("1", "b")
    new = _pull(store, tmp_path, f"{registry.host}/app:1").image
    assert store.prune(lambda _: True).deleted[0] == old.config_digest
    assert [image.config_digest for image, _ in store.grouped()] == [new.config_digest]


def test_what_is_no_image_of_a_container_is_told_as_that(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    chart = {"mediaType": "application/vnd.cncf.helm.config.v1+json", **registry.add(b'{"name":"chart"}')}
    registry.add_manifest("1", {"schemaVersion": 2, "mediaType": MANIFEST, "config": chart, "layers": []})
    with pytest.raises(RegistryError, match=r"is no image of a container, but application/vnd\.cncf\.helm"):
        _pull(store, tmp_path, f"{registry.host}/app:1")


# -- connections that break --------------------------------------------------------------------------------------------


def test_a_cut_connection_is_taken_up_where_it_ended(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    _, (layer,) = registry.add_image("1", NOISE)
    data = registry.blobs[layer]

    def cut_once(seen: Seen) -> Reply | None:
        if layer in seen.path and "range" not in seen.headers:
            return Reply(body=data, cut=len(data) // 2)
        return None

    registry.fault = cut_once
    watched = Watched()
    _pull(store, tmp_path, f"{registry.host}/app:1", watched=watched)
    ranges = [seen.headers["range"] for seen in registry.asked("GET", layer)[1:]]
    assert ranges == [f"bytes={len(data) // 2}-"]
    assert Step.RETRYING in watched.steps_of(layer)
    store.blobs.verify(layer)


def test_a_connection_that_breaks_every_few_bytes_still_gets_there(
    registry: Scripted, store: ImageStore, tmp_path: Path
) -> None:
    _, (layer,) = registry.add_image("1", NOISE[:20_000])
    step = len(registry.blobs[layer]) // 3 + 1

    def cut(seen: Seen) -> Reply | None:
        if layer not in seen.path:
            return None
        reply = registry.blob(seen, registry.blobs[layer])
        return Reply(reply.status, reply.body, reply.headers, cut=step)

    registry.fault = cut
    _pull(store, tmp_path, f"{registry.host}/app:1")
    assert len(registry.asked("GET", layer)) == 3


def test_a_registry_without_ranges_is_asked_for_the_whole_again(
    registry: Scripted, store: ImageStore, tmp_path: Path
) -> None:
    _, (layer,) = registry.add_image("1", NOISE)
    data = registry.blobs[layer]
    registry.fault = lambda seen: (
        Reply(body=data, cut=None if "range" in seen.headers else 1000) if layer in seen.path else None
    )
    _pull(store, tmp_path, f"{registry.host}/app:1")
    store.blobs.verify(layer)


def test_what_a_failed_pull_has_fetched_is_kept_for_the_next(
    registry: Scripted, store: ImageStore, tmp_path: Path
) -> None:
    _, (first, second) = registry.add_image("1", "small", NOISE)
    data = registry.blobs[second]
    half = len(data) // 2
    first_is_there = store.blobs.has

    def broken(seen: Seen) -> Reply | None:
        if second not in seen.path:
            return None
        return Reply(status=404) if first_is_there(first) and "range" in seen.headers else Reply(body=data, cut=half)

    registry.fault = broken
    with pytest.raises(RegistryError):
        _pull(store, tmp_path, f"{registry.host}/app:1")
    assert _nothing_is_left(store)
    registry.fault = lambda _: None
    registry.seen.clear()
    watched = Watched()
    _pull(store, tmp_path, f"{registry.host}/app:1", watched=watched)
    assert watched.steps_of(first) == [Step.EXISTS]
    assert [seen.headers["range"] for seen in registry.asked("GET", second)] == [f"bytes={half}-"]


def test_a_registry_that_stalls_is_given_up(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    _, (layer,) = registry.add_image("1", NOISE)
    data = registry.blobs[layer]
    registry.fault = lambda seen: Reply(body=data, cut=10, stall=True) if layer in seen.path else None
    with pytest.raises(RegistryError, match="sent nothing for too long"):
        _pull(store, tmp_path, f"{registry.host}/app:1", settings=Settings(timeout_s=0.1))
    assert _nothing_is_left(store)


def test_a_registry_that_never_answers_is_given_up(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    registry.fault = lambda _: Reply(body=b"x", headers={"Content-Length": "2"}, stall=True)
    with pytest.raises(RegistryError, match=r"has not answered within|sent nothing"):
        _pull(store, tmp_path, f"{registry.host}/app:1", settings=Settings(timeout_s=0.1))


def test_a_body_that_is_always_short_is_told_with_what_came(
    registry: Scripted, store: ImageStore, tmp_path: Path
) -> None:
    _, (layer,) = registry.add_image("1", "a")
    size = len(registry.blobs[layer])
    registry.fault = lambda seen: (
        Reply(body=b"12345")
        if layer in seen.path and "range" not in seen.headers
        else (Reply(status=206, headers={"Content-Range": f"bytes 5-5/{size}"}) if layer in seen.path else None)
    )
    with pytest.raises(RegistryError, match=f"ended after 5 of the {size} bytes of {layer}"):
        _pull(store, tmp_path, f"{registry.host}/app:1")


def test_a_body_that_is_too_long_is_cut_off(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    _, (layer,) = registry.add_image("1", "a")
    size = len(registry.blobs[layer])
    registry.fault = lambda seen: Reply(body=bytes(10 << 20)) if layer in seen.path else None
    with pytest.raises(RegistryError, match=f"sent more than the {size} bytes"):
        _pull(store, tmp_path, f"{registry.host}/app:1")


def test_nobody_listens(store: ImageStore, tmp_path: Path) -> None:
    with scripted_registry() as gone:
        host = gone.host
    with pytest.raises(RegistryError, match=f"cannot reach {host}: Connection refused"):
        _pull(store, tmp_path, f"{host}/app:1")


# -- lies --------------------------------------------------------------------------------------------------------------


def test_other_bytes_than_promised_are_thrown_away(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    _, (layer,) = registry.add_image("1", "a")
    size = len(registry.blobs[layer])
    registry.fault = lambda seen: Reply(body=bytes(size)) if layer in seen.path else None
    with pytest.raises(DigestMismatch, match=f"expected {layer}"):
        _pull(store, tmp_path, f"{registry.host}/app:1")
    assert _nothing_is_left(store)
    assert not store.blobs.has(layer)
    assert [name for name in os.listdir(store.blobs.ingest) if name.endswith(".part")] == []


def test_a_manifest_of_another_digest_is_refused(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    digest, _ = registry.add_image("1", "a")
    other, _ = registry.add_image("2", "b")
    registry.manifests[digest] = registry.manifests[other]
    with pytest.raises(DigestMismatch):
        _pull(store, tmp_path, f"{registry.host}/app@{digest}")
    media_type, data = registry.manifests["2"]
    lying = {"Content-Type": media_type, "Docker-Content-Digest": "sha256:" + "0" * 64}
    registry.fault = lambda seen: Reply(body=data, headers=lying) if "/manifests/" in seen.path else None
    with pytest.raises(DigestMismatch):
        _pull(store, tmp_path, f"{registry.host}/app:2")
    assert _nothing_is_left(store)


@pytest.mark.parametrize(
    ("body", "content_type", "told"),
    [
        (b"<html>log in to this network</html>", "text/html", "gave text/html and no manifest"),
        (b"{}", "application/json", "gave application/json, which is no image"),
        (b'{"mediaType":"application/x-tar"}', "", "gave application/x-tar, which is no image"),
        (b'{"schemaVersion":1,"fsLayers":[]}', "application/json", "docker's first version"),
        (b"[]", "application/vnd.oci.image.manifest.v1+json", "image manifest is not a JSON object"),
        (b'{"config":{}}', "application/vnd.oci.image.manifest.v1+json", "digest is not a JSON string"),
        (b" " * (5 << 20), "application/json", "longer than"),
    ],
)
def test_what_is_no_manifest_is_told_as_that(
    registry: Scripted, store: ImageStore, tmp_path: Path, body: bytes, content_type: str, told: str
) -> None:
    reply = Reply(body=body, headers={"Content-Type": content_type})
    registry.fault = lambda seen: reply if "/manifests/" in seen.path else None
    with pytest.raises(ContainerError, match=re.escape(told)):
        _pull(store, tmp_path, f"{registry.host}/app:1")
    assert _nothing_is_left(store)


def test_redirects_in_a_loop_end(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    registry.fault = lambda seen: (
        Reply(status=307, headers={"Location": seen.path}) if "/manifests/" in seen.path else None
    )
    with pytest.raises(RegistryError, match="redirects in a loop"):
        _pull(store, tmp_path, f"{registry.host}/app:1")


def test_a_redirect_out_of_this_machine_without_encryption_is_not_followed(
    registry: Scripted, store: ImageStore, tmp_path: Path
) -> None:
    registry.fault = lambda seen: (
        Reply(status=302, headers={"Location": "http://198.51.100.1/x"}) if "/manifests/" in seen.path else None
    )
    with pytest.raises(RegistryError, match=r"redirects to http://198\.51\.100\.1, which is not encrypted"):
        _pull(store, tmp_path, f"{registry.host}/app:1")


def test_who_is_redirected_to_another_host_does_not_take_the_credential_along(
    registry: Scripted, store: ImageStore, tmp_path: Path
) -> None:
    _, (layer,) = registry.add_image("1", "a")
    with scripted_registry() as elsewhere, session_with(tmp_path) as session:
        elsewhere.blobs = registry.blobs
        session.credentials.put(registry.host, Credential(user="u", password="p"))

        def ask_and_redirect(seen: Seen) -> Reply | None:
            if "authorization" not in seen.headers:
                return Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
            if layer in seen.path:
                return Reply(status=307, headers={"Location": f"http://{elsewhere.host}/v2/x/blobs/{layer}"})
            return None

        registry.fault = ask_and_redirect
        _pull(store, tmp_path, f"{registry.host}/app:1")
    assert [seen.headers.get("authorization") for seen in elsewhere.seen] == [None]
    assert all("authorization" in seen.headers for seen in registry.seen[1:])


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(registry: Scripted, store: ImageStore, tmp_path: Path, status: int) -> None:
    registry.add_image("1", "a")
    left = [Reply(status=status, headers=AT_ONCE)] * 3
    registry.fault = lambda seen: left.pop() if left and "/v2/app" in seen.path else None
    assert _pull(store, tmp_path, f"{registry.host}/app:1").is_new


@pytest.mark.parametrize(("status", "reason"), [(429, "too many requests"), (500, "internal error")])
def test_what_does_not_pass_is_told(
    registry: Scripted, store: ImageStore, tmp_path: Path, status: int, reason: str
) -> None:
    registry.fault = lambda seen: Reply(status=status, headers=AT_ONCE) if "/manifests/" in seen.path else None
    with pytest.raises(RegistryError, match=f"{registry.host} answered {status}: {reason}"):
        _pull(store, tmp_path, f"{registry.host}/app:1")
    assert len(registry.asked("GET", "/manifests/")) == 5


def test_an_image_that_is_not_there_is_told_with_its_name(
    registry: Scripted, store: ImageStore, tmp_path: Path
) -> None:
    with pytest.raises(RegistryError, match=f"manifest for {registry.host}/app:1 not found") as caught:
        _pull(store, tmp_path, f"{registry.host}/app:1")
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("challenge", "told"),
    [
        ("", "wants authentication by nothing that can be read"),
        ("Negotiate", "wants authentication by negotiate"),
        ('Digest realm="a", nonce="b"', "wants authentication by digest"),
        ("====", "wants authentication by nothing that can be read"),
        ("Bearer", "names no token server that can be asked"),
        ('Bearer realm="file:///etc/passwd"', "names no token server that can be asked"),
        ('Basic realm="r"', "no basic auth credentials"),
    ],
)
def test_a_strange_challenge_is_told(
    registry: Scripted, store: ImageStore, tmp_path: Path, challenge: str, told: str
) -> None:
    registry.fault = lambda _: Reply(status=401, headers={"WWW-Authenticate": challenge} if challenge else {})
    with pytest.raises(RegistryError, match=re.escape(told)):
        _pull(store, tmp_path, f"{registry.host}/app:1")


def test_a_credential_that_is_refused_is_not_shown_and_not_tried_for_ever(
    registry: Scripted, store: ImageStore, tmp_path: Path
) -> None:
    registry.fault = lambda _: Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
    with session_with(tmp_path) as session:
        session.credentials.put(registry.host, Credential(user="user", password="hunter2"))
    with pytest.raises(RegistryError, match=f"{registry.host} answered 401") as caught:
        _pull(store, tmp_path, f"{registry.host}/app:1")
    secret = base64.b64encode(b"user:hunter2").decode()
    assert not any(text in str(caught.value) + caught.value.hint for text in ("hunter2", secret))
    assert caught.value.hint == f"lab login {registry.host}"
    assert len(registry.seen) < 10


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(body=b"<html>", headers={"Content-Type": "text/html"}), "gave no token, but text/html"),
        (Reply(body=b"{}"), "gave no token"),
        (Reply(body=b'{"token":"a\\nX-Header: b"}'), "gave no token"),
        (Reply(status=401, body=b'{"details":"incorrect username or password"}'), "incorrect username or password"),
        (Reply(status=404), "answered 404"),
    ],
)
def test_a_bad_token_server_is_told(
    registry: Scripted, store: ImageStore, tmp_path: Path, reply: Reply, told: str
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{registry.host}/token",service="s"'}
    registry.fault = lambda seen: reply if seen.path.startswith("/token") else Reply(status=401, headers=challenge)
    with pytest.raises(RegistryError, match=re.escape(told)):
        _pull(store, tmp_path, f"{registry.host}/app:1")


def test_a_full_disk_is_told_and_leaves_nothing_of_the_layer(
    registry: Scripted, store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add_image("1", NOISE)
    write = PartialBlob.write

    def full(self: PartialBlob, data: bytes) -> None:
        if self.size_bytes > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, data)

    monkeypatch.setattr(PartialBlob, "write", full)
    with pytest.raises(KernelError, match="No space left on device"):
        _pull(store, tmp_path, f"{registry.host}/app:1")
    assert [name for name in os.listdir(store.blobs.ingest) if name.endswith(".part")] == []
    monkeypatch.undo()
    assert _pull(store, tmp_path, f"{registry.host}/app:1").is_new


# -- mirrors and proxies -----------------------------------------------------------------------------------------------


def test_a_mirror_stands_for_dockers_registry(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    registry.add_image("latest", "a")
    settings = Settings(mirrors=(f"http://{registry.host}/cache",))
    registry.fault = lambda seen: registry.well_behaved(replace(seen, path=seen.path.removeprefix("/cache")))
    pulled = _pull(store, tmp_path, "nginx", settings=settings)
    assert pulled.image.name == "nginx:latest"
    assert {seen.path for seen in registry.seen if "/manifests/" in seen.path} == {
        "/cache/v2/library/nginx/manifests/latest"
    }


def test_a_mirror_that_lies_about_a_layer_is_passed_over(store: ImageStore, tmp_path: Path) -> None:
    with scripted_registry() as bad, scripted_registry() as good:
        _, (layer,) = good.add_image("latest", "a")
        bad.manifests, bad.blobs = good.manifests, {**good.blobs, layer: bytes(len(good.blobs[layer]))}
        settings = Settings(mirrors=(f"http://{bad.host}", f"http://{good.host}"))
        assert _pull(store, tmp_path, "nginx", settings=settings).is_new
        assert good.asked("GET", layer)
    store.blobs.verify(layer)


def test_a_proxy_is_asked_for_what_is_elsewhere(registry: Scripted, store: ImageStore, tmp_path: Path) -> None:
    registry.add_image("1", "a")

    def proxied(seen: Seen) -> Reply | None:
        assert seen.path.startswith("http://registry.example:5000/")
        path = seen.path.removeprefix("http://registry.example:5000")
        return registry.well_behaved(replace(seen, path=path))

    registry.fault = proxied
    proxies = Proxies(by_scheme={"http": f"http://user:hunter2@{registry.host}"})
    settings = Settings(insecure=("registry.example:5000",))
    assert _pull(store, tmp_path, "registry.example:5000/app:1", settings=settings, proxies=proxies).is_new
    expected = "Basic " + base64.b64encode(b"user:hunter2").decode()
    assert {seen.headers.get("proxy-authorization") for seen in registry.seen} == {expected}
