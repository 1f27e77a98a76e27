"""Images for several platforms under one name: what a reference means, and what goes and what stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.container_storage.test_container_storage_images import add_image

from lab.container.image import indexes
from lab.container.image.combining import combine
from lab.container.image.indexes import Member
from lab.container.image.packages import debian_architecture
from lab.container.image.platforms import choose, host_platform, parse_platform
from lab.container.image.store import ImageStore, StoredImage
from lab.container.spec.image import Descriptor, ImageConfig, MediaType, Platform, RootFS
from lab.container.storage.pack import Layer
from lab.errors import ContainerError, ImageNotFound, SpecError, StateConflict

ARM = Platform(os="linux", architecture="arm", variant="v7")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "images"), str(tmp_path / "layers"))


def _for_arm(store: ImageStore, name: str) -> StoredImage:
    data = name.encode()
    layer = Layer(
        descriptor=Descriptor(media_type=MediaType.LAYER, digest=store.blobs.add(data), size=len(data)),
        diff_id="sha256:" + f"{len(data):064x}",
    )
    config = ImageConfig(
        architecture="arm", os="linux", variant="v7", rootfs=RootFS(diff_ids=(layer.diff_id,)), author=name
    )
    return store.add(name, config, [layer])


@pytest.fixture
def both(store: ImageStore) -> tuple[StoredImage, StoredImage]:
    """Return this host's image and another one, which are together under the name "both" and have none else."""
    ours, other = add_image(store, "ours", b"1"), _for_arm(store, "other")
    combine(store, "both", ("other", "ours"))
    for name in ("ours", "other"):
        store.remove(name)
    return ours, other


def test_a_name_means_this_hosts_image_or_that_for_a_platform(
    store: ImageStore, both: tuple[StoredImage, StoredImage]
) -> None:
    ours, other = both
    assert store.resolve("both").config_digest == ours.config_digest
    assert store.resolve("both", host_platform()).config_digest == ours.config_digest
    assert store.resolve("both", ARM).config_digest == other.config_digest
    assert [image.name for image in store.images_of("both")] == ["both:latest", "both:latest"]
    with pytest.raises(ImageNotFound, match="wanted linux/s390x, actual: ") as caught:
        store.resolve("both", parse_platform("s390x", architecture=""))
    assert caught.value.hint == "lab pull --platform linux/s390x both"


def test_an_id_or_digest_means_one_platforms_image_but_the_id_that_lists_show_all(
    store: ImageStore, both: tuple[StoredImage, StoredImage]
) -> None:
    ours, other = both
    index = store.descriptor("both")
    assert indexes.is_index(index)
    assert store.descriptor(index.digest) == store.descriptor(ours.config_digest) == index
    assert store.descriptor(other.config_digest).digest == other.manifest_digest
    assert store.descriptor(ours.manifest_digest).digest == ours.manifest_digest
    assert store.resolve(other.config_digest[7:19]).config_digest == other.config_digest
    assert store.resolve(f"both@{other.manifest_digest}").config_digest == other.config_digest
    assert [name.familiar for name in store.names_of(other)] == ["both:latest"]


def test_a_further_name_is_for_all_platforms_or_for_one(
    store: ImageStore, both: tuple[StoredImage, StoredImage]
) -> None:
    _, other = both
    store.tag("both", "all")
    store.tag(other.config_digest, "one")
    assert store.descriptor("all") == store.descriptor("both")
    assert store.descriptor("one").digest == other.manifest_digest
    assert store.remove("all").deleted == store.remove("both").deleted[:0]
    assert store.resolve("one").config_digest == other.config_digest


def test_an_index_goes_with_all_its_images_and_not_for_one_of_them(
    store: ImageStore, both: tuple[StoredImage, StoredImage]
) -> None:
    ours, other = both
    with pytest.raises(StateConflict, match="one platform's image of an index"):
        store.remove(other.config_digest)
    assert store.collect() == 0
    removed = store.remove("both")
    assert {ours.config_digest, other.config_digest} < set(removed.deleted)
    assert store.blobs.digests() == ()


def test_of_an_index_none_of_whose_images_is_there_that_is_told(
    store: ImageStore, both: tuple[StoredImage, StoredImage]
) -> None:
    for image in both:
        store.blobs.remove(image.manifest_digest)
    ((called, error),) = store.damaged()
    assert (called, "none of the images" in str(error)) == ("both:latest", True)
    with pytest.raises(ContainerError):
        store.resolve("both")
    store.remove("both")
    assert store.blobs.digests() == ()


def test_a_list_is_amended_only_when_that_is_said(store: ImageStore, both: tuple[StoredImage, StoredImage]) -> None:
    newer = _for_arm(store, "newer")
    with pytest.raises(StateConflict, match="--amend"):
        combine(store, "both", ("newer",))
    combine(store, "both", ("newer",), amend=True)
    assert store.resolve("both", ARM).config_digest == newer.config_digest
    assert store.resolve("both").config_digest == both[0].config_digest
    assert len(store.images_of("both")) == 2


def _member(digit: str, architecture: str, **annotations: str) -> Member:
    manifest = Descriptor(
        media_type=MediaType.MANIFEST,
        digest="sha256:" + digit * 64,
        size=1,
        platform=Platform(os="linux", architecture=architecture),
        annotations=annotations,
    )
    return Member(subject=digit, manifest=manifest)


def test_an_index_has_one_image_for_each_platform() -> None:
    one, other = _member("1", "amd64"), _member("2", "arm64")
    assert indexes.merged((one, other, one)).manifests == (one.manifest, other.manifest)
    with pytest.raises(SpecError, match="1 and 3 are both for linux/amd64"):
        indexes.merged((one, _member("3", "amd64")))
    said = {"vnd.docker.reference.type": "attestation-manifest"}
    unknown = [_member(digit, "unknown", **said) for digit in "45"]
    assert len(indexes.merged((one, *unknown)).manifests) == 3


def test_indexes_without_an_end_are_refused(store: ImageStore) -> None:
    entry = store.add_documents(b"{}", [])
    for _ in range(7):
        data = indexes.Index(manifests=(entry,)).to_json()
        entry = Descriptor(media_type=MediaType.INDEX, digest=store.blobs.add(data), size=len(data))
    with pytest.raises(ContainerError, match="nested too deeply"):
        tuple(indexes.below(store.blobs, entry))


def test_the_usual_variant_is_taken_where_none_is_asked_for() -> None:
    arms = [Platform(os="linux", architecture="arm", variant=variant) for variant in ("v6", "v7", "v8")]

    def chosen(variant: str) -> Platform | None:
        return choose(arms, lambda each: each, Platform(os="linux", architecture="arm", variant=variant))

    assert chosen("") == arms[1]
    assert chosen("v6") == arms[0]
    assert chosen("v5") is None
    assert choose(arms, lambda each: each, Platform(os="linux", architecture=debian_architecture())) is None
