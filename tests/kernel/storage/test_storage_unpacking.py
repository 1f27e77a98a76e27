"""Unpacking what others packed, with the kernel's own files: faithful to good archives, closed to hostile ones."""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.container.spec.image import Descriptor, MediaType
from lab.container.storage.blobs import BlobStore
from lab.container.storage.layers import LayerSource, LayerStore
from lab.container.storage.pack import pack_directory
from lab.container.storage.unpack import UnpackLimits
from lab.errors import DigestMismatch, KernelError, LabError, LayerCorrupt
from lab.linux import command, mount

pytestmark = pytest.mark.root

Build = Callable[[tarfile.TarFile], None]


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "store"))


def source_of(blobs: BlobStore, data: bytes, *, media_type: str = MediaType.LAYER) -> LayerSource:
    digest = blobs.add(data)
    plain = gzip.decompress(data) if media_type == MediaType.LAYER_GZIP else data
    descriptor = Descriptor(media_type=media_type, digest=digest, size=len(data))
    diff_id = blobs.add(plain)
    return LayerSource(descriptor=descriptor, diff_id=diff_id, chain_id=diff_id)


def archive(build: Build, **options: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=options.get("format", tarfile.PAX_FORMAT)) as tar:
        build(tar)
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: object) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mode = kind, len(content), 0o644
    for field, value in fields.items():
        setattr(entry, field, value)
    tar.addfile(entry, io.BytesIO(content))


def unpacked(blobs: BlobStore, tmp_path: Path, data: bytes, limits: UnpackLimits | None = None) -> Path:
    layers = LayerStore(str(tmp_path / "layers"), blobs, limits=limits)
    return Path(layers.directory(source_of(blobs, data)))


def refused(blobs: BlobStore, tmp_path: Path, data: bytes, limits: UnpackLimits | None = None) -> LayerCorrupt:
    with pytest.raises(LayerCorrupt) as caught:
        unpacked(blobs, tmp_path, data, limits)
    left = [name for name in os.listdir(tmp_path / "layers") if not name.endswith(".lock")]
    assert left == [], "a refused layer leaves nothing"
    return caught.value


def test_owner_mode_and_time_are_those_of_the_archive(blobs: BlobStore, tmp_path: Path) -> None:
    def build(tar: tarfile.TarFile) -> None:
        add(tar, "dir", tarfile.DIRTYPE, mode=0o2750, uid=7, gid=8, mtime=1000)
        add(tar, "dir/program", content=b"x", mode=0o4755, uid=1, gid=2, mtime=2000)
        add(tar, "dir/link", tarfile.SYMTYPE, linkname="/etc", uid=3, gid=4, mtime=3000)

    root = unpacked(blobs, tmp_path, archive(build))
    seen = {name: (root / name).lstat() for name in ("dir", "dir/program", "dir/link")}
    assert {(stat.S_IMODE(s.st_mode), s.st_uid, s.st_gid, s.st_mtime) for s in seen.values()} == {
        (0o2750, 7, 8, 1000.0),
        (0o4755, 1, 2, 2000.0),
        (0o777, 3, 4, 3000.0),
    }


def test_whiteouts_become_overlays_own_marks(blobs: BlobStore, tmp_path: Path) -> None:
    def build(tar: tarfile.TarFile) -> None:
        add(tar, "a/.wh.gone")
        add(tar, "b/.wh..wh..opq")
        add(tar, "b/.wh..wh.plnk")
        add(tar, "again/kept")
        add(tar, ".wh.again")
        add(tar, ".wh.back")
        add(tar, "back", tarfile.DIRTYPE, mode=0o755)

    root = unpacked(blobs, tmp_path, archive(build))
    gone = (root / "a/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.listdir(root / "b") == []
    for name in ("b", "again", "back"):
        assert os.getxattr(root / name, "trusted.overlay.opaque") == b"y"
    assert (root / "again/kept").exists()


def test_a_layer_that_is_packed_and_unpacked_packs_to_the_same_layer(blobs: BlobStore, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "opaque").mkdir(parents=True)
    os.setxattr(tree / "opaque", "trusted.overlay.opaque", b"y")
    os.mknod(tree / "gone", stat.S_IFCHR, 0)
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (tree / "attributed").write_text("x")
    os.setxattr(tree / "attributed", "user.binary", b"\xff\x00\n=")
    os.setxattr(tree / "attributed", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.link(tree / "attributed", tree / "second")
    os.chown(tree / "null", 5, 6)
    first = pack_directory(blobs, str(tree))
    source = LayerSource(descriptor=first.descriptor, diff_id=first.diff_id, chain_id=first.diff_id)
    directory = LayerStore(str(tmp_path / "layers"), blobs).directory(source)
    assert os.stat(f"{directory}/attributed").st_ino == os.stat(f"{directory}/second").st_ino
    assert pack_directory(blobs, directory) == first


@pytest.mark.parametrize("tar_format", ["gnu", "pax"])
def test_holes_stay_holes_in_what_gnu_tar_packs(blobs: BlobStore, tmp_path: Path, tar_format: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with open(tree / "sparse", "wb") as file:
        file.seek(8 * 1024 * 1024)
        file.write(b"data")
        file.truncate(64 * 1024 * 1024)
    packed = tmp_path / "sparse.tar"
    command.run(["tar", f"--format={tar_format}", "--sparse", "-C", str(tree), "-cf", str(packed), "sparse"])
    result = unpacked(blobs, tmp_path, packed.read_bytes()) / "sparse"
    assert result.stat().st_size == 64 * 1024 * 1024
    assert result.stat().st_blocks * 512 < 1024 * 1024
    assert result.read_bytes() == (tree / "sparse").read_bytes()


def test_what_gnu_tar_packs_with_attributes_and_long_names_is_unpacked_the_same(
    blobs: BlobStore, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / ("d" * 120)).mkdir(parents=True)
    (tree / ("d" * 120) / ("f" * 120)).write_text("long")
    (tree / "attributed").write_text("x")
    os.setxattr(tree / "attributed", "user.note", b"kept")
    packed = tmp_path / "tree.tar"
    command.run(["tar", "--format=pax", "--xattrs", "--xattrs-include=*", "-C", str(tree), "-cf", str(packed), "."])
    root = unpacked(blobs, tmp_path, packed.read_bytes())
    assert (root / ("d" * 120) / ("f" * 120)).read_text() == "long"
    assert os.getxattr(root / "attributed", "user.note") == b"kept"


@pytest.mark.parametrize("name", ["../escape", "/../escape", "a/../../escape", "a/.."])
def test_a_name_that_leaves_the_root_is_refused(blobs: BlobStore, tmp_path: Path, name: str) -> None:
    assert "leaves" in str(refused(blobs, tmp_path, archive(lambda tar: add(tar, name))))


@pytest.mark.parametrize("target", ["{outside}", "../../../../../../../../../..{outside}"])
def test_a_file_written_through_a_link_stays_inside(blobs: BlobStore, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def build(tar: tarfile.TarFile) -> None:
        add(tar, "link", tarfile.SYMTYPE, linkname=target.format(outside=outside))
        add(tar, f"./{outside}/made-inside", content=b"x")
        add(tar, "link/file", content=b"through the link")

    root = unpacked(blobs, tmp_path, archive(build))
    assert os.listdir(outside) == []
    assert (root / str(outside).lstrip("/") / "file").read_bytes() == b"through the link"


def test_a_file_through_a_link_that_leads_nowhere_inside_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def build(tar: tarfile.TarFile) -> None:
        add(tar, "link", tarfile.SYMTYPE, linkname=str(outside))
        add(tar, "link/file", content=b"x")

    with pytest.raises(LabError):
        unpacked(blobs, tmp_path, archive(build))
    assert os.listdir(outside) == []


def test_an_entry_that_replaces_a_link_does_not_follow_it(blobs: BlobStore, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")

    def build(tar: tarfile.TarFile) -> None:
        add(tar, "file", tarfile.SYMTYPE, linkname=str(victim))
        add(tar, "file", content=b"new")
        add(tar, "dir", tarfile.SYMTYPE, linkname=str(tmp_path))
        add(tar, "dir", tarfile.DIRTYPE, mode=0o700, uid=9)

    root = unpacked(blobs, tmp_path, archive(build))
    assert victim.read_text() == "untouched"
    assert (root / "file").read_bytes() == b"new"
    assert (root / "dir").lstat().st_uid == 9
    assert tmp_path.stat().st_uid == os.getuid()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "missing", "dir", "."])
def test_a_hard_link_to_outside_or_to_no_file_is_refused(blobs: BlobStore, tmp_path: Path, target: str) -> None:
    def build(tar: tarfile.TarFile) -> None:
        add(tar, "dir", tarfile.DIRTYPE, mode=0o755)
        add(tar, "name", tarfile.LNKTYPE, linkname=target)

    refused(blobs, tmp_path, archive(build))


def test_a_hard_link_through_a_link_cannot_reach_outside(blobs: BlobStore, tmp_path: Path) -> None:
    def build(tar: tarfile.TarFile) -> None:
        add(tar, "etc", tarfile.SYMTYPE, linkname="/etc")
        add(tar, "name", tarfile.LNKTYPE, linkname="etc/passwd")

    with pytest.raises(LabError):
        unpacked(blobs, tmp_path, archive(build))


def test_a_link_that_leads_round_in_circles_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    def build(tar: tarfile.TarFile) -> None:
        add(tar, "a", tarfile.SYMTYPE, linkname="b")
        add(tar, "b", tarfile.SYMTYPE, linkname="a")
        add(tar, "a/file", content=b"x")

    refused(blobs, tmp_path, archive(build))


def test_a_file_below_a_file_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    def build(tar: tarfile.TarFile) -> None:
        add(tar, "a", content=b"x")
        add(tar, "a/b", content=b"x")

    refused(blobs, tmp_path, archive(build))


def test_a_device_that_overlay_would_take_for_a_whiteout_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    data = archive(lambda tar: add(tar, "x", tarfile.CHRTYPE, devmajor=0, devminor=0))
    assert "whiteout" in str(refused(blobs, tmp_path, data))


def test_device_nodes_are_made(blobs: BlobStore, tmp_path: Path) -> None:
    data = archive(lambda tar: add(tar, "dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666))
    status = (unpacked(blobs, tmp_path, data) / "dev/null").stat()
    assert (status.st_rdev, stat.S_IMODE(status.st_mode)) == (os.makedev(1, 3), 0o666)


def test_a_layer_cannot_steer_overlay(blobs: BlobStore, tmp_path: Path) -> None:
    headers = {"SCHILY.xattr.trusted.overlay.redirect": "/etc"}
    data = archive(lambda tar: add(tar, "x", tarfile.DIRTYPE, mode=0o755, pax_headers=headers))
    assert "overlay" in str(refused(blobs, tmp_path, data))


def test_a_huge_declared_size_is_refused_before_anything_is_written(blobs: BlobStore, tmp_path: Path) -> None:
    entry = tarfile.TarInfo("huge")
    entry.size = 2**60
    assert "limit" in str(refused(blobs, tmp_path, entry.tobuf(tarfile.GNU_FORMAT)))


def test_the_sizes_of_all_files_count_together(blobs: BlobStore, tmp_path: Path) -> None:
    def build(tar: tarfile.TarFile) -> None:
        for number in range(3):
            add(tar, str(number), content=b"x" * 400)

    assert "1000" in str(refused(blobs, tmp_path, archive(build), UnpackLimits(size_bytes=1000)))


def test_too_many_entries_are_refused(blobs: BlobStore, tmp_path: Path) -> None:
    def build(tar: tarfile.TarFile) -> None:
        for number in range(11):
            add(tar, str(number))

    assert "more than 10 entries" in str(refused(blobs, tmp_path, archive(build), UnpackLimits(entries=10)))


def test_an_extended_header_that_would_fill_the_memory_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 2**40
    assert "extended header" in str(refused(blobs, tmp_path, entry.tobuf(tarfile.GNU_FORMAT)))


@pytest.mark.parametrize("cut", [1, 512, 1000, 1500])
def test_an_archive_that_ends_too_early_is_refused(blobs: BlobStore, tmp_path: Path, cut: int) -> None:
    def build(tar: tarfile.TarFile) -> None:
        add(tar, "a", content=b"x" * 2000)

    refused(blobs, tmp_path, archive(build)[:cut])


def test_garbage_in_the_middle_is_not_taken_for_the_end(blobs: BlobStore, tmp_path: Path) -> None:
    def build(tar: tarfile.TarFile) -> None:
        add(tar, "a", content=b"x" * 512)
        add(tar, "b", content=b"x")

    data = bytearray(archive(build, format=tarfile.GNU_FORMAT))
    data[1024 + 150] ^= 0xFF  # in the checksum of the second header
    assert "damaged" in str(refused(blobs, tmp_path, bytes(data)))


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"not a tar archive at all" * 100])
def test_what_is_no_archive_is_refused(blobs: BlobStore, tmp_path: Path, data: bytes) -> None:
    refused(blobs, tmp_path, data)


def test_a_name_with_a_nul_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    data = archive(lambda tar: add(tar, "x", pax_headers={"path": "a\0b"}))
    refused(blobs, tmp_path, data)


def test_gzip_that_is_cut_short_or_damaged_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    data = gzip.compress(archive(lambda tar: add(tar, "a", content=os.urandom(5000))))
    source = source_of(blobs, data, media_type=MediaType.LAYER_GZIP)
    for bad in (data[:-3000], data[:3000] + b"\xff" * 40 + data[3040:]):
        descriptor = Descriptor(media_type=MediaType.LAYER_GZIP, digest=blobs.add(bad), size=len(bad))
        with pytest.raises(LayerCorrupt):
            LayerStore(str(tmp_path / "layers"), blobs).directory(
                LayerSource(descriptor=descriptor, diff_id=source.diff_id, chain_id=source.chain_id)
            )


def test_damage_on_disk_is_told_as_a_wrong_digest(blobs: BlobStore, tmp_path: Path) -> None:
    data = gzip.compress(archive(lambda tar: add(tar, "a", content=os.urandom(5000))))
    source = source_of(blobs, data, media_type=MediaType.LAYER_GZIP)
    Path(blobs.path(source.descriptor.digest)).write_bytes(data[:3000] + b"\xff" * 40 + data[3040:])
    with pytest.raises(DigestMismatch):
        LayerStore(str(tmp_path / "layers"), blobs).directory(source)
    assert [name for name in os.listdir(tmp_path / "layers") if not name.endswith(".lock")] == []


def test_a_tar_that_is_not_the_one_of_the_configuration_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    source = source_of(blobs, archive(lambda tar: add(tar, "a")))
    other = LayerSource(descriptor=source.descriptor, diff_id=f"sha256:{'0' * 64}", chain_id=f"sha256:{'0' * 64}")
    with pytest.raises(DigestMismatch, match="tar of layer"):
        LayerStore(str(tmp_path / "layers"), blobs).directory(other)


def test_what_a_killed_unpacking_left_is_not_taken_for_a_layer(blobs: BlobStore, tmp_path: Path) -> None:
    source = source_of(blobs, archive(lambda tar: add(tar, "a", content=b"whole")))
    layers = LayerStore(str(tmp_path / "layers"), blobs)
    half = Path(layers.path(source.chain_id) + ".unfinished")
    half.mkdir(parents=True)
    (half / "half").write_text("x")
    directory = Path(layers.directory(source))
    assert os.listdir(directory) == ["a"]
    assert not half.exists()
    assert layers.chain_ids() == (source.chain_id,)


UNPACK = """
import sys
from lab.container.image.store import ImageStore

print(ImageStore(sys.argv[1], sys.argv[2]).layer_directories("image"))
"""


def test_of_many_processes_that_ask_at_once_all_get_the_same_directory(tmp_path: Path) -> None:
    from lab.container.image.assemble import Assembly, Step, assemble
    from lab.container.image.store import ImageStore

    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(300):
        (tree / str(number)).write_text("x" * number)
    store = ImageStore(str(tmp_path / "images"), str(tmp_path / "layers"))
    with store.content_shared():
        step = Step(layer=pack_directory(store.blobs, str(tree)), created_by="test", created_s=0)
        assemble(store, Assembly(name="image", steps=(step,), cmd=("sh",)))
    argv = [sys.executable, "-c", UNPACK, store.root, str(tmp_path / "layers")]
    workers = [command.spawn(argv, stdout=command.PIPE) for _ in range(4)]
    answers = {worker.communicate()[0] for worker in workers}
    assert len(answers) == 1
    (directory,) = store.layer_directories("image")
    assert len(os.listdir(directory)) == 300


def test_a_full_disk_is_told_and_leaves_nothing_half_made(blobs: BlobStore, tmp_path: Path) -> None:
    source = source_of(blobs, archive(lambda tar: add(tar, "a", content=os.urandom(3 * 1024 * 1024))))
    small = tmp_path / "layers"
    small.mkdir()
    mount.mount("tmpfs", str(small), "tmpfs", 0, "size=1m")
    try:
        with pytest.raises(KernelError, match="No space left") as caught:
            LayerStore(str(small), blobs).directory(source)
        assert "--root" in caught.value.hint
        assert [name for name in os.listdir(small) if not name.endswith(".lock")] == []
    finally:
        mount.umount2(str(small), 0)
