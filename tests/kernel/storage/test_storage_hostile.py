"""Layers made to do harm: whatever a tar holds, nothing outside the layer is touched, and a refusal leaves nothing."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.container.spec.image import Descriptor, MediaType
from lab.container.storage.blobs import BlobStore
from lab.container.storage.compression import Compression, decompressed
from lab.container.storage.layers import LayerSource, LayerStore
from lab.container.storage.unpack import UnpackLimits, unpack
from lab.errors import DigestMismatch, LayerCorrupt

pytestmark = pytest.mark.root

PARTS = st.sampled_from(
    ["a", "b", "..", ".", "", "link", "etc", ".wh.a", ".wh..wh..opq", ".wh.", "\udcff", "n\u00e4me", "x" * 256]
)
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
TARGETS = st.sampled_from(
    ["a", "/", "..", "../..", "/etc", "/proc/self/root", "link", "", ".", "../../../../../../tmp", "b/a"]
)
TYPES = st.sampled_from(
    [
        tarfile.REGTYPE,
        tarfile.DIRTYPE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.GNUTYPE_SPARSE,
        b"Z",
    ]
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        ["SCHILY.xattr.user.a", "SCHILY.xattr.trusted.overlay.opaque", "path", "linkpath", "size", "mtime", "uid"]
    ),
    st.sampled_from(["", "x", "../../escape", "/etc/passwd", "-1", "9" * 30, "1.5", "y"]),
    max_size=2,
)


@st.composite
def entries(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(draw(NAMES))
    entry.type = draw(TYPES)
    entry.mode = draw(st.sampled_from([0, 0o644, 0o755, 0o7777]))
    entry.uid = draw(st.sampled_from([0, 1, 65534, 2**31]))
    entry.mtime = draw(st.sampled_from([0, 1, 2**33]))
    entry.linkname = draw(TARGETS)
    entry.devmajor = entry.devminor = draw(st.sampled_from([0, 1, 255]))
    entry.pax_headers = draw(ATTRIBUTES)
    content = draw(st.binary(max_size=20)) if entry.isreg() else b""
    entry.size = len(content)
    return entry, content


def archive_of(made: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for entry, content in made:
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def refusal_of(tar: bytes, directory: str, limits: UnpackLimits) -> str:
    """Return why a tar is refused, "" if it is not."""
    try:
        unpack(io.BytesIO(tar), directory, limits, subject="it")
    except LayerCorrupt as error:
        return str(error)
    return ""


@settings(max_examples=300, deadline=None)
@given(st.lists(entries(), max_size=8))
def test_whatever_entries_a_layer_has_nothing_outside_of_it_is_touched(
    made: list[tuple[tarfile.TarInfo, bytes]],
) -> None:
    with tempfile.TemporaryDirectory() as base:
        root, outside = Path(base, "layer"), Path(base, "outside")
        root.mkdir()
        outside.write_text("untouched")
        os.symlink(outside, Path(base, "escape"))
        before = outside.lstat()
        said = refusal_of(archive_of(made), str(root), UnpackLimits())
        assert said == "" or said.startswith("it")
        assert sorted(os.listdir(base)) == ["escape", "layer", "outside"]
        assert (outside.read_text(), outside.lstat().st_mtime_ns) == ("untouched", before.st_mtime_ns)
        for directory, _, files in os.walk(root):
            for name in files:
                status = os.lstat(os.path.join(directory, name))
                assert status.st_ino != before.st_ino


@settings(max_examples=200, deadline=None)
@given(st.lists(entries(), max_size=4), st.data())
def test_a_damaged_archive_is_told_in_one_sentence(
    made: list[tuple[tarfile.TarInfo, bytes]], data: st.DataObject
) -> None:
    damaged = bytearray(archive_of(made))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, min(len(damaged), 4096) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    with tempfile.TemporaryDirectory() as base:
        said = refusal_of(bytes(damaged[:cut]), base, UnpackLimits(size_bytes=2**20))
        assert said == "" or said.startswith("it")


@given(
    st.binary(max_size=200), st.sampled_from([Compression.GZIP, Compression.ZSTD, Compression.BZIP2, Compression.XZ])
)
def test_what_is_called_compressed_and_is_not_is_refused(data: bytes, compression: Compression) -> None:
    magic = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "bzip2": b"BZh", "xz": b"\xfd7zXZ\x00"}[compression]
    stream = decompressed(io.BytesIO(magic + data))
    with pytest.raises(LayerCorrupt, match="cannot be decompressed"):
        all(iter(lambda: stream.read(1024), b""))


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "images"))


def refused(blobs: BlobStore, tmp_path: Path, blob: bytes, limits: UnpackLimits, diff_id: str = "") -> LayerCorrupt:
    digest = blobs.add(blob)
    source = LayerSource(
        descriptor=Descriptor(media_type=MediaType.LAYER_GZIP, digest=digest, size=len(blob)),
        diff_id=diff_id or digest,
        chain_id=digest,
    )
    with pytest.raises(LayerCorrupt) as caught:
        LayerStore(str(tmp_path / "layers"), blobs, limits=limits).directory(source)
    assert [name for name in os.listdir(tmp_path / "layers") if not name.endswith(".lock")] == []
    return caught.value


def test_zeros_without_end_behind_an_archive_are_not_read_to_their_end(blobs: BlobStore, tmp_path: Path) -> None:
    tar = archive_of([(tarfile.TarInfo("a"), b"")])
    bomb = gzip.compress(tar) + gzip.compress(bytes(64 * 1024**2)) * 8
    error = refused(blobs, tmp_path, bomb, UnpackLimits(entries=10, size_bytes=1024))
    assert "longer than the limits allow" in str(error)
    assert "LAB_LAYER_BYTES_MAX" in error.hint


def test_headers_without_files_count_as_well(blobs: BlobStore, tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 512
    record = b"512 comment=" + b"x" * 499 + b"\n"
    tar = (header.tobuf(tarfile.USTAR_FORMAT) + record) * 20_000
    assert "layer" in str(refused(blobs, tmp_path, gzip.compress(tar), UnpackLimits(entries=10, size_bytes=1024)))


def test_a_limit_that_is_raised_lets_the_same_layer_in(blobs: BlobStore, tmp_path: Path) -> None:
    tar = archive_of([(tarfile.TarInfo(f"{number}"), b"") for number in range(20)])
    blob = gzip.compress(tar)
    error = refused(blobs, tmp_path, blob, UnpackLimits(entries=19), diff_id=BlobStore(str(tmp_path / "x")).add(tar))
    assert "more than 19 entries" in str(error)
    source = LayerSource(
        descriptor=Descriptor(media_type=MediaType.LAYER_GZIP, digest=blobs.add(blob), size=len(blob)),
        diff_id=BlobStore(str(tmp_path / "x")).add(tar),
        chain_id=blobs.add(blob),
    )
    directory = LayerStore(str(tmp_path / "layers"), blobs, limits=UnpackLimits(entries=20)).directory(source)
    assert len(os.listdir(directory)) == 20


def test_device_nodes_are_refused_where_they_are_not_allowed(blobs: BlobStore, tmp_path: Path) -> None:
    device = tarfile.TarInfo("null")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
    pipe = tarfile.TarInfo("pipe")
    pipe.type = tarfile.FIFOTYPE
    with pytest.raises(LayerCorrupt, match="'null' is a device node, which is not allowed here"):
        unpack(io.BytesIO(archive_of([(device, b"")])), str(tmp_path), UnpackLimits(devices=False), subject="it")
    unpack(io.BytesIO(archive_of([(pipe, b"")])), str(tmp_path), UnpackLimits(devices=False), subject="it")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_of_entries_with_the_same_name_the_last_counts(tmp_path: Path) -> None:
    first, second, third = (tarfile.TarInfo("a") for _ in range(3))
    first.size, third.size = 1, 2
    second.type = tarfile.DIRTYPE
    made = [(first, b"1"), (second, b""), (third, b"33")]
    unpack(io.BytesIO(archive_of(made)), str(tmp_path), UnpackLimits(), subject="it")
    assert (tmp_path / "a").read_bytes() == b"33"


def test_a_layer_that_was_half_removed_by_a_killed_command_is_unpacked_anew(blobs: BlobStore, tmp_path: Path) -> None:
    tar = archive_of([(tarfile.TarInfo("file"), b"")])
    digest = blobs.add(tar)
    source = LayerSource(
        descriptor=Descriptor(media_type=MediaType.LAYER, digest=digest, size=len(tar)), diff_id=digest, chain_id=digest
    )
    layers = LayerStore(str(tmp_path / "layers"), blobs)
    directory = layers.directory(source)
    os.rename(directory, f"{directory}.unfinished")  # as far as a killed removal can have come
    os.unlink(f"{directory}.unfinished/file")
    assert layers.leftovers() == (digest,)
    assert os.listdir(layers.directory(source)) == ["file"]
    layers.remove(digest)
    assert os.listdir(tmp_path / "layers") == []


def test_a_size_is_known_without_unpacking_and_the_same_after_it(blobs: BlobStore, tmp_path: Path) -> None:
    entry, link = tarfile.TarInfo("file"), tarfile.TarInfo("link")
    entry.size = 5
    link.type, link.linkname = tarfile.SYMTYPE, "file"
    tar = archive_of([(entry, b"12345"), (link, b"")])
    digest = blobs.add(tar)
    source = LayerSource(
        descriptor=Descriptor(media_type=MediaType.LAYER, digest=digest, size=len(tar)), diff_id=digest, chain_id=digest
    )
    sizes = []
    for unpacks in (False, True):
        layers = LayerStore(str(tmp_path / f"layers-{unpacks}"), blobs)
        directory = layers.directory(source) if unpacks else ""
        sizes.append(layers.content_bytes(source))
        if unpacks:
            os.unlink(f"{directory}.size")
            sizes.append(layers.content_bytes(source))
    assert sizes == [9, 9, 9]


def test_a_wrong_digest_is_told_before_a_bad_archive(blobs: BlobStore, tmp_path: Path) -> None:
    digest = blobs.add(b"not an archive")
    Path(blobs.path(digest)).write_bytes(b"something else")
    source = LayerSource(
        descriptor=Descriptor(media_type=MediaType.LAYER, digest=digest, size=14), diff_id=digest, chain_id=digest
    )
    with pytest.raises(DigestMismatch):
        LayerStore(str(tmp_path / "layers"), blobs).directory(source)
