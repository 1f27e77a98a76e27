"""The OCI documents: written canonically, read with care."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.spec.image import (
    Descriptor,
    ExecutionConfig,
    History,
    ImageConfig,
    Index,
    Manifest,
    MediaType,
    RootFS,
    is_digest,
    layout_json,
    to_canonical_json,
)
from lab.errors import ContainerError

HEX = st.text(alphabet="0123456789abcdef", min_size=64, max_size=64)
DIGESTS = HEX.map(lambda text: f"sha256:{text}")
WORDS = st.text(min_size=1, max_size=12)
MAPS = st.dictionaries(WORDS, st.text(max_size=12), max_size=3)
DESCRIPTORS = st.builds(
    Descriptor,
    media_type=st.sampled_from([media_type.value for media_type in MediaType]),
    digest=DIGESTS,
    size=st.integers(min_value=0, max_value=2**63),
    annotations=MAPS,
)
CONFIGS = st.builds(
    ImageConfig,
    architecture=st.sampled_from(["amd64", "arm64"]),
    os=st.just("linux"),
    rootfs=st.builds(RootFS, diff_ids=st.lists(DIGESTS, max_size=3).map(tuple)),
    created=st.just("2026-05-07T20:33:45Z"),
    config=st.builds(
        ExecutionConfig,
        user=WORDS,
        env=st.lists(WORDS, max_size=3).map(tuple),
        cmd=st.lists(WORDS, max_size=3).map(tuple),
        exposed_ports=st.sets(WORDS, max_size=3).map(sorted).map(tuple),
        labels=MAPS,
    ),
    history=st.lists(st.builds(History, created_by=WORDS, empty_layer=st.booleans()), max_size=3).map(tuple),
)


@given(st.builds(Manifest, config=DESCRIPTORS, layers=st.lists(DESCRIPTORS, max_size=3).map(tuple), annotations=MAPS))
def test_a_manifest_that_is_written_and_read_is_the_same(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json()) == manifest


@given(st.builds(Index, manifests=st.lists(DESCRIPTORS, max_size=3).map(tuple)))
def test_an_index_that_is_written_and_read_is_the_same(index: Index) -> None:
    assert Index.from_json(index.to_json()) == index


@given(CONFIGS)
def test_a_configuration_that_is_written_and_read_is_the_same(config: ImageConfig) -> None:
    assert ImageConfig.from_json(config.to_json()) == config


@given(CONFIGS)
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(config: ImageConfig) -> None:
    document = json.loads(config.to_json())
    shuffled = dict(reversed(document.items()))
    assert to_canonical_json(shuffled) == config.to_json()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_a_document_or_a_clear_error(document: object) -> None:
    data = json.dumps(document).encode()
    for parse in (Manifest.from_json, Index.from_json, ImageConfig.from_json):
        with suppress(ContainerError):
            assert parse(data) is not None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_document_are_a_clear_error(data: bytes) -> None:
    with pytest.raises(ContainerError):
        Manifest.from_json(data)


def test_null_stands_for_absent_as_docker_writes_it() -> None:
    config = ExecutionConfig.from_document({"Cmd": None, "Labels": None, "Volumes": None, "User": None})
    assert config == ExecutionConfig()


def test_the_fields_have_the_names_of_the_specification() -> None:
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        rootfs=RootFS(diff_ids=(f"sha256:{'0' * 64}",)),
        config=ExecutionConfig(cmd=("sh",), working_dir="/", exposed_ports=("80/tcp",)),
    )
    document = json.loads(config.to_json())
    assert document["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]}
    assert document["config"] == {"Cmd": ["sh"], "WorkingDir": "/", "ExposedPorts": {"80/tcp": {}}}
    assert json.loads(layout_json()) == {"imageLayoutVersion": "1.0.0"}


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:../../etc/passwd", f"sha512:{'0' * 64}", f"sha256:{'A' * 64}", f"sha256:{'0' * 64}\n"],
)
def test_what_is_no_digest_is_not_taken_for_one(text: str) -> None:
    assert not is_digest(text)
