"""Images by name: names move, digests stay, what nobody needs goes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lab.container.image import busybox, debian, sources
from lab.container.image.assemble import Assembly, Step, assemble, extend, rfc3339
from lab.container.image.lookup import Lookup
from lab.container.image.store import ImageStore, Removed, StoredImage
from lab.container.storage.blobs import BlobStore
from lab.errors import DigestMismatch, ImageNotFound
from lab.linux import command


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "images"), str(tmp_path / "layers"))


def add_image(store: ImageStore, name: str, content: bytes) -> StoredImage:
    plan = (busybox.TreeEntry(name="file", mode=0o644, content=content),)
    with store.content_shared():
        step = Step(layer=busybox.pack(store.blobs, plan, mtime_s=0), created_by="test", created_s=0)
        return assemble(store, Assembly(name=name, steps=(step,), cmd=("sh",), labels={"a": "b"}))


def test_an_image_is_found_by_name_digest_and_beginning_of_the_digest(store: ImageStore) -> None:
    image = add_image(store, "one", b"1")
    assert store.resolve("one") == image
    assert store.resolve(image.manifest_digest) == image
    assert store.resolve(image.manifest_digest[:19]) == image
    assert store.resolve(image.manifest_digest.removeprefix("sha256:")[:12]) == image
    assert store.resolve(image.config_digest) == image
    assert store.resolve(image.config_digest.removeprefix("sha256:")[:12]) == image
    assert store.resolve("docker.io/library/one:latest") == image
    assert store.resolve(f"one@{image.manifest_digest}") == image


def test_an_image_that_is_not_there_is_told_with_those_that_are(store: ImageStore) -> None:
    add_image(store, "one", b"1")
    with pytest.raises(ImageNotFound, match="No such image: two:latest") as caught:
        store.resolve("two")
    assert "one" in caught.value.hint


class Watched(BlobStore):
    """A content store that notes what is read."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.looked_at: list[str] = []

    def read(self, digest: str) -> bytes:
        self.looked_at.append(digest)
        return super().read(digest)


@pytest.mark.parametrize("reference", ["three", "manifest"])
def test_looking_for_one_image_reads_no_other(store: ImageStore, reference: str) -> None:
    images = {name: add_image(store, name, name.encode()) for name in ("one", "two", "three")}
    wanted = images["three"]
    fresh = ImageStore(store.root)
    fresh._lookup = Lookup(watched := Watched(store.root))
    found = fresh.resolve(wanted.manifest_digest if reference == "manifest" else reference)
    assert found.config_digest == wanted.config_digest
    assert set(watched.looked_at) == {wanted.manifest_digest, wanted.config_digest}


def test_of_many_images_some_are_told_where_one_is_not_there(store: ImageStore) -> None:
    image = add_image(store, "one", b"1")
    for number in range(20):
        store.tag(image.manifest_digest, f"name{number}")
    with pytest.raises(ImageNotFound) as caught:
        store.resolve("two")
    assert "and 13 more: lab images" in caught.value.hint
    assert len(caught.value.hint) < 200


@pytest.mark.parametrize("reference", ["", "sha256:", "sha256:xyz", "../x", f"sha256:{'0' * 64}"])
def test_an_odd_reference_is_only_not_found(store: ImageStore, reference: str) -> None:
    add_image(store, "one", b"1")
    with pytest.raises(ImageNotFound):
        store.resolve(reference)


def test_an_image_whose_name_has_moved_on_is_still_there_by_digest(store: ImageStore) -> None:
    old, new = add_image(store, "one", b"1"), add_image(store, "one", b"2")
    assert store.resolve("one").manifest_digest == new.manifest_digest
    assert store.resolve(old.manifest_digest).name == ""
    assert [image.name for image in store.images()] == ["one:latest", ""]


def test_the_same_image_again_changes_nothing(store: ImageStore) -> None:
    assert add_image(store, "one", b"1") == add_image(store, "one", b"1")
    assert len(store.images()) == 1


def test_two_names_of_one_image_are_removed_one_by_one(store: ImageStore) -> None:
    image = add_image(store, "one", b"1")
    add_image(store, "two", b"1")
    assert store.remove("one") == Removed(image_id=image.config_digest, untagged=("one:latest",))
    assert store.resolve("two").manifest_digest == image.manifest_digest
    removed = store.remove("two")
    assert removed.deleted == (image.config_digest, *image.chain_ids)
    assert removed.freed_bytes > 0
    assert store.blobs.digests() == ()


def test_a_layer_that_another_image_needs_stays(store: ImageStore) -> None:
    base = add_image(store, "base", b"1")
    layer = busybox.pack(store.blobs, (busybox.TreeEntry(name="more", mode=0o644, content=b"2"),), mtime_s=0)
    top = extend(store, base, "top", Step(layer=layer, created_by="more", created_s=60), labels={"c": "d"})
    assert top.layers[0] == base.layers[0]
    assert top.config.history[1].created == "1970-01-01T00:01:00Z"
    assert dict(top.config.config.labels) == {"a": "b", "c": "d"}
    store.remove("base")
    assert [error for _, error in store.verify()] == [None] * 4
    assert store.resolve("top") == top


def test_while_another_command_uses_the_store_names_go_at_once_and_content_when_it_has_ended(store: ImageStore) -> None:
    image = add_image(store, "one", b"1")
    with store.content_shared():
        assert store.remove("one").deferred
        assert store.blobs.has(image.layers[0].digest)
        with pytest.raises(ImageNotFound):
            store.resolve("one")
    assert store.blobs.digests() == ()


def test_verify_names_the_damaged_blob(store: ImageStore) -> None:
    image = add_image(store, "one", b"1")
    victim = image.layers[0].digest
    Path(store.blobs.path(victim)).write_bytes(b"x")
    damaged = {digest: error for digest, error in store.verify() if error}
    assert set(damaged) == {victim}
    assert isinstance(damaged[victim], DigestMismatch)


def test_a_store_lies_there_as_an_oci_layout(store: ImageStore) -> None:
    add_image(store, "one", b"1")
    assert Path(store.root, "oci-layout").read_bytes() == b'{"imageLayoutVersion":"1.0.0"}'
    assert {"index.json", "blobs"} <= set(os.listdir(store.root))


ADD_MANY = """
import sys
from lab.container.image.busybox import TreeEntry, pack
from lab.container.image.assemble import Assembly, Step, assemble
from lab.container.image.lookup import Lookup
from lab.container.image.store import ImageStore

store = ImageStore(sys.argv[1])
for name in sys.argv[2:]:
    with store.content_shared():
        layer = pack(store.blobs, (TreeEntry(name="file", mode=0o644, content=name.encode()),), mtime_s=0)
        step = Step(layer=layer, created_by="test", created_s=0)
        assemble(store, Assembly(name=name, steps=(step,), cmd=("sh",)))
"""


def test_names_that_many_processes_give_at_once_are_all_there(tmp_path: Path) -> None:
    names = [[f"image-{worker}-{number}" for number in range(5)] for worker in range(3)]
    workers = [command.spawn([sys.executable, "-c", ADD_MANY, str(tmp_path), *some]) for some in names]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    found = {image.name for image in ImageStore(str(tmp_path)).images()}
    assert found == {f"{name}:latest" for some in names for name in some}


def test_instants_are_written_as_the_specification_asks() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00Z"


def test_only_installed_packages_have_a_version() -> None:
    status = (
        "Package: apt\nStatus: install ok installed\nVersion: 2.6\nDescription: x\n more: text\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
    )
    assert debian.package_versions(status) == {"apt": "2.6"}


def test_the_hosts_own_mirrors_are_used_for_its_suite() -> None:
    targets = (
        "http://mirror/debian/|bookworm|main|Debian|bookworm\n"
        "http://mirror/debian/|bookworm|non-free|Debian|bookworm\n"
        "http://mirror/security/|bookworm-security|main|Debian|bookworm-security\n"
        "https://elsewhere/|nodistro|main|Node|nodistro\n"
    )
    key = f"[signed-by={sources.DEBIAN_KEYRING}]"
    assert sources.host_lines(targets, "bookworm") == (
        f"deb {key} http://mirror/debian bookworm main",
        f"deb {key} http://mirror/security bookworm-security main",
    )
    assert sources.host_lines(targets, "trixie") == ()


@pytest.mark.parametrize(
    ("release", "suite", "is_told"),
    [
        ({"ID": "debian", "VERSION_CODENAME": "bookworm"}, "bookworm", False),
        ({"ID": "debian"}, "trixie", True),
        ({"ID": "ubuntu", "VERSION_CODENAME": "noble"}, "trixie", True),
    ],
)
def test_the_suite_is_the_hosts_or_it_is_said_that_it_is_not(
    release: dict[str, str], suite: str, is_told: bool
) -> None:
    chosen, note = sources.choose_suite(release)
    assert (chosen, bool(note)) == (suite, is_told)


def test_proxies_of_the_host_are_passed_on_and_nothing_else() -> None:
    dump = (
        'Acquire::http::Proxy "http://p:1";\nAcquire::http::User-Agent "x";\n'
        'APT::Architecture "amd64";\nAcquire::https::CaInfo "/ca";\n'
    )
    assert sources.passed_on_options(dump) == ('Acquire::http::Proxy "http://p:1"', 'Acquire::https::CaInfo "/ca"')


def test_apt_reads_its_own_configuration_only() -> None:
    found = sources.AptSources(suite="bookworm", lines=("deb x",), options=('Acquire::http::Proxy "http://p:1"',))
    text = debian.apt_configuration("/work", "/root", found)
    assert 'Dir "/root/";\n' in text
    assert 'DPkg::Chroot-Directory "/root";\n' in text
    assert 'Acquire::http::Proxy "http://p:1";\n' in text
