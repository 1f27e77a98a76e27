"""The content store: whole blobs under the right digest, or none."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lab.container.storage import durable
from lab.container.storage.blobs import BlobStore
from lab.errors import ContainerError, DigestMismatch


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path))


def test_a_blob_lies_under_the_digest_of_its_bytes(blobs: BlobStore) -> None:
    digest = blobs.add(b"content")
    assert digest == f"sha256:{hashlib.sha256(b'content').hexdigest()}"
    assert blobs.read(digest) == b"content"
    assert blobs.digests() == (digest,)


def test_an_empty_store_has_no_blobs_and_makes_no_directories(blobs: BlobStore, tmp_path: Path) -> None:
    assert blobs.digests() == ()
    assert list(tmp_path.iterdir()) == []


def test_damage_is_found_when_a_blob_is_read(blobs: BlobStore) -> None:
    digest = blobs.add(b"content")
    Path(blobs.path(digest)).write_bytes(b"c0ntent")
    with pytest.raises(DigestMismatch) as caught:
        blobs.read(digest)
    assert digest.removeprefix("sha256:") in str(caught.value)
    assert caught.value.hint
    with pytest.raises(DigestMismatch):
        blobs.verify(digest)


def test_a_blob_that_is_cut_short_is_found(blobs: BlobStore) -> None:
    digest = blobs.add(b"content")
    Path(blobs.path(digest)).write_bytes(b"cont")
    with pytest.raises(DigestMismatch):
        blobs.verify(digest)


def test_a_failed_write_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(TypeError), blobs.writing() as writer:
        writer.write("text is no content")  # type: ignore[arg-type]  # the fault that is wanted
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_killed_writers_left_is_no_blob_and_can_be_removed(blobs: BlobStore, tmp_path: Path) -> None:
    digest = blobs.add(b"content")
    (tmp_path / "ingest" / "killed").write_bytes(b"half")
    assert blobs.digests() == (digest,)
    blobs.remove_unfinished()
    assert os.listdir(tmp_path / "ingest") == []


def test_a_path_cannot_be_smuggled_in_as_a_digest(blobs: BlobStore) -> None:
    with pytest.raises(ContainerError, match="not a digest"):
        blobs.path("sha256:../../../etc/passwd")


def test_a_missing_blob_is_named_with_a_hint(blobs: BlobStore) -> None:
    with pytest.raises(ContainerError, match="missing") as caught:
        blobs.read(f"sha256:{'0' * 64}")
    assert "bootstrap" in caught.value.hint


def test_a_document_has_a_limit_of_size(blobs: BlobStore) -> None:
    digest = blobs.add(b" " * (4 * 1024 * 1024 + 1))
    with pytest.raises(ContainerError, match="too large"):
        blobs.read(digest)


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write_atomically(str(path), b"old")
    durable.write_atomically(str(path), b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(IsADirectoryError):
        durable.write_atomically(str(tmp_path), b"x" * 10)
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_an_exclusive_lock_is_refused_while_others_share_it(tmp_path: Path) -> None:
    lock = str(tmp_path / "lock")
    with durable.shared(lock), durable.shared(lock), durable.locked_if_free(lock) as held:
        assert not held
    with durable.locked_if_free(lock) as held:
        assert held
