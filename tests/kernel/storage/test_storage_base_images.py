"""Base images on a real host: the same twice, read by other tools, told clearly when they cannot be made."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from lab.container.image import debian
from lab.container.image.bootstrap import BaseImage, bootstrap, bootstrap_with_packages
from lab.container.image.sources import AptSources
from lab.container.image.store import ImageStore, StoredImage
from lab.container.image.work import Job, work_directory
from lab.container.storage.snapshots import Overlay, mount_overlay, mount_points_below, unmount, unmount_below
from lab.errors import ContainerError, KernelError, SpecError, StateConflict
from lab.linux import command, mount
from lab.paths import Paths


def make(paths: Paths, base: BaseImage = BaseImage.BUSYBOX, **wishes: bool) -> StoredImage:
    return bootstrap(ImageStore.open(paths), base, progress=lambda _: None, **wishes).image


def lab(paths: Paths, *arguments: str) -> command.Completed:
    return command.run([sys.executable, "-m", "lab", "--root", paths.root, "image", *arguments])


def test_the_busybox_image_is_the_same_bytes_in_every_store(fresh_paths: Paths) -> None:
    first = make(fresh_paths)
    other = make(Paths.under(fresh_paths.root + "/other"))
    assert first == other


def test_a_second_bootstrap_finds_the_image_and_a_forced_one_makes_it_again(fresh_paths: Paths) -> None:
    store = ImageStore.open(fresh_paths)
    seen = [
        bootstrap(store, BaseImage.BUSYBOX, progress=lambda _: None, force=force).made for force in (False, False, True)
    ]
    assert seen == [True, False, True]
    assert len(store.images()) == 1


@pytest.mark.root
@pytest.mark.needs("overlay")
def test_busybox_runs_on_an_overlay_of_the_image(fresh_paths: Paths) -> None:
    layers = ImageStore.open(fresh_paths).layer_directories(make(fresh_paths).manifest_digest)
    upper, work, root = (os.path.join(fresh_paths.root, name) for name in ("upper", "work", "merged"))
    for directory in (upper, work, root):
        os.mkdir(directory)
    mount_overlay(Overlay(lower=layers, upper=upper, work=work), root)
    try:
        done = command.run(["chroot", root, "/bin/sh", "-c", "awk 'BEGIN { print 6 * 7 }'; rm /etc/shells"])
        assert done.text == "42"
        assert stat.S_ISCHR(os.lstat(os.path.join(upper, "etc/shells")).st_mode)
        assert os.path.exists(os.path.join(layers[0], "etc/shells"))
    finally:
        unmount(root)
    assert mount_points_below(root) == ()


@pytest.mark.root
@pytest.mark.needs("overlay")
def test_more_layers_than_a_page_of_options_can_be_stacked(tmp_path: Path) -> None:
    layers = [tmp_path / f"{number:02}{'x' * 120}" for number in range(40)]
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / "file").write_text(str(number))
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    overlay = Overlay(
        lower=tuple(map(str, layers)), upper=str(tmp_path / "upper"), work=str(tmp_path / "work"), volatile=True
    )
    mount_overlay(overlay, str(tmp_path / "merged"))
    assert (tmp_path / "merged" / "file").read_text() == "0"
    unmount(str(tmp_path / "merged"))
    with pytest.raises(KernelError) as caught:
        mount_overlay(overlay, str(tmp_path / "merged"))
    assert "volatile" in caught.value.hint


@pytest.mark.root
@pytest.mark.needs("overlay")
def test_paths_longer_than_the_kernels_strings_can_be_layers(tmp_path: Path) -> None:
    base = tmp_path / ("x" * 200) / ("y" * 200)
    for name in ("lower", "upper", "work", "merged"):
        (base / name).mkdir(parents=True)
    (base / "lower" / "file").write_text("low")
    overlay = Overlay(lower=(str(base / "lower"),), upper=str(base / "upper"), work=str(base / "work"))
    mount_overlay(overlay, str(base / "merged"))
    try:
        (base / "merged" / "new").write_text("x")
        assert (base / "merged" / "file").read_text() == "low"
    finally:
        unmount(str(base / "merged"))
    assert os.listdir(base / "upper") == ["new"]


@pytest.mark.root
def test_what_is_mounted_below_a_directory_is_unmounted_from_the_top(tmp_path: Path) -> None:
    outer = tmp_path / "with space"
    outer.mkdir()
    mount.mount("tmpfs", str(outer), "tmpfs", 0, "size=64k")
    (outer / "inner").mkdir()
    mount.mount("tmpfs", str(outer / "inner"), "tmpfs", 0, "size=64k")
    assert mount_points_below(str(tmp_path)) == (str(outer), str(outer / "inner"))
    unmount_below(str(tmp_path))
    assert mount_points_below(str(tmp_path)) == ()


@pytest.mark.needs("skopeo")
def test_skopeo_reads_the_store_as_it_lies_there(fresh_paths: Paths) -> None:
    image = make(fresh_paths)
    done = command.run(["skopeo", "inspect", f"oci:{fresh_paths.images}:busybox:latest"])
    assert done.exit_code == 0, done.error_text
    assert json.loads(done.stdout)["Digest"] == image.manifest_digest


@pytest.mark.needs("skopeo")
def test_skopeo_converts_what_is_exported_without_changing_the_image_id(fresh_paths: Paths) -> None:
    image, store = make(fresh_paths), ImageStore.open(fresh_paths)
    archive, layout, back = (os.path.join(fresh_paths.root, name) for name in ("a.tar", "layout", "back"))
    store.export_docker_archive(image.manifest_digest, "busybox", archive)
    store.export_oci_layout(image.manifest_digest, "renamed", layout)
    for source in (f"docker-archive:{archive}", f"oci:{layout}:renamed"):
        done = command.run(["skopeo", "inspect", "--raw", "--config", source])
        assert done.stdout == store.blobs.read(image.config_digest), done.error_text
    done = command.run(["skopeo", "copy", f"oci:{layout}:renamed", f"docker-archive:{back}:x:y"])
    assert done.exit_code == 0, done.error_text


@pytest.mark.root
def test_an_image_that_is_mounted_somewhere_is_not_removed(fresh_paths: Paths) -> None:
    store = ImageStore.open(fresh_paths)
    layers = store.layer_directories(make(fresh_paths).manifest_digest)
    for name in ("u", "w", "m"):
        os.mkdir(os.path.join(fresh_paths.root, name))
    upper, work, root = (os.path.join(fresh_paths.root, name) for name in "uwm")
    mount_overlay(Overlay(lower=layers, upper=upper, work=work), root)
    try:
        with pytest.raises(StateConflict, match="in use by process"):
            store.remove("busybox")
    finally:
        unmount(root)
    store.remove("busybox")
    assert not os.path.exists(layers[0])


def test_the_command_line_makes_lists_checks_and_removes(fresh_paths: Paths) -> None:
    assert lab(fresh_paths, "bootstrap", "busybox").text.startswith("busybox:latest made sha256:")
    assert lab(fresh_paths, "bootstrap", "busybox").text.startswith("busybox:latest is there already: sha256:")
    listed = json.loads(lab(fresh_paths, "ls", "--format", "json", "--no-trunc").stdout)
    assert (listed["Repository"], listed["Tag"]) == ("busybox", "latest")
    assert lab(fresh_paths, "ls", "--quiet").text == listed["ID"].removeprefix("sha256:")[:12]
    assert "IMAGE ID" in lab(fresh_paths, "ls").text
    (inspected,) = json.loads(lab(fresh_paths, "inspect", listed["ID"][:20]).stdout)
    assert inspected["RepoTags"] == ["busybox:latest"]
    assert lab(fresh_paths, "verify").text == "3 blobs verified, 0 damaged"
    assert lab(fresh_paths, "rm", "busybox").exit_code == 0
    missing = lab(fresh_paths, "rm", "busybox")
    assert missing.exit_code == 1
    assert "No such image: busybox:latest" in missing.error_text


def test_a_damaged_blob_is_named_with_exit_code_1(fresh_paths: Paths) -> None:
    image = make(fresh_paths)
    path = Path(ImageStore.open(fresh_paths).blobs.path(image.layers[0].digest))
    path.write_bytes(path.read_bytes()[:-1])
    done = lab(fresh_paths, "verify")
    assert done.exit_code == 1
    assert image.layers[0].digest.removeprefix("sha256:") in done.error_text
    assert "--force" in done.error_text


@pytest.mark.root
def test_a_full_disk_is_told_and_leaves_nothing_half_made(fresh_paths: Paths) -> None:
    os.makedirs(fresh_paths.images)
    mount.mount("tmpfs", fresh_paths.images, "tmpfs", 0, "size=512k")
    try:
        done = lab(fresh_paths, "bootstrap", "busybox")
        assert done.exit_code == 1
        assert "No space left on device" in done.error_text
        assert "Traceback" not in done.error_text
        assert ImageStore.open(fresh_paths).blobs.digests() == ()
        assert os.listdir(os.path.join(fresh_paths.images, "ingest")) == []
    finally:
        unmount(fresh_paths.images)


@pytest.mark.root
@pytest.mark.needs("mmdebstrap")
def test_a_mirror_that_does_not_answer_is_told_with_the_tools_last_lines(fresh_paths: Paths) -> None:
    sources = AptSources(suite="bookworm", lines=("deb [trusted=yes] http://127.0.0.1:9 bookworm main",))
    store = ImageStore.open(fresh_paths)
    with work_directory(os.path.join(fresh_paths.images, "work", "debian")) as work:
        job = Job(name=BaseImage.DEBIAN, store=store, work=work, progress=lambda _: None, epoch_s=0)
        with pytest.raises(ContainerError, match="mmdebstrap failed") as caught:
            debian.make_minbase(job, sources, created_s=0)
    assert "network" in caught.value.hint
    assert store.blobs.digests() == ()
    assert os.listdir(os.path.join(fresh_paths.images, "work")) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("busybox", "--include", "hello", "--tag", "x"), "--include needs the base debian"),
        (("debian", "--include", "hello"), "--include needs the base debian"),
        (("debian", "--tag", "x"), "--tag names an image with --include"),
        (("debian", "--include", "hello", "--tag", "X"), "must be lowercase"),
    ],
)
def test_packages_need_debian_and_a_name(fresh_paths: Paths, words: tuple[str, ...], said: str) -> None:
    done = lab(fresh_paths, "bootstrap", *words)
    assert done.exit_code == 1
    assert said in done.error_text


@pytest.mark.root
@pytest.mark.needs("mmdebstrap")
def test_an_image_with_packages_is_debian_and_a_layer_of_them(paths: Paths) -> None:
    store, name = ImageStore.open(paths), "lab-test-packages"
    try:
        image = bootstrap_with_packages(store, name, ("hello",), progress=lambda _: None).image
        debian_layers = store.resolve(BaseImage.DEBIAN).layers
        assert image.layers[:-1] == debian_layers
        assert os.path.exists(os.path.join(store.layer_directories(name)[0], "usr/bin/hello"))
        assert "lab.package.hello" in image.config.config.labels
        assert not bootstrap_with_packages(store, name, ("hello",), progress=lambda _: None).made
        with pytest.raises(SpecError, match="another image"):
            bootstrap_with_packages(store, name, ("hello", "fio"), progress=lambda _: None)
    finally:
        store.remove(name)


@pytest.mark.root
@pytest.mark.needs("mmdebstrap")
def test_a_package_that_there_is_not_is_told_and_leaves_nothing(paths: Paths) -> None:
    store = ImageStore.open(paths)
    with pytest.raises(ContainerError, match="Unable to locate package nosuch") as caught:
        bootstrap_with_packages(store, "lab-test-packages", ("nosuch",), progress=lambda _: None)
    assert "apt-cache search" in caught.value.hint
    assert not os.path.exists(os.path.join(store.root, "work", "lab-test-packages@latest"))
