"""How fast our own Python packs, unpacks, hashes and finds layers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lab.container.image.assemble import Assembly, Step, assemble
from lab.container.image.store import ImageStore
from lab.container.storage.layers import LayerSource, LayerStore, chain_ids
from lab.container.storage.pack import Layer, pack_directory

FILES = 1000
FILE_BYTES = 16 * 1024


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    root = tmp_path_factory.mktemp("store")
    return ImageStore(str(root / "images"), str(root / "layers"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("tree")
    content = os.urandom(FILE_BYTES // 2) + bytes(FILE_BYTES // 2)
    for number in range(FILES):
        path = root / str(number % 20) / str(number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return str(root)


@pytest.fixture(scope="module")
def layer(store: ImageStore, tree: str) -> Layer:
    with store.content_shared():
        packed = pack_directory(store.blobs, tree)
        assemble(store, Assembly(name="it", steps=(Step(layer=packed, created_by="x", created_s=0),), cmd=("sh",)))
    return packed


def test_packing_a_thousand_files(benchmark: BenchmarkFixture, store: ImageStore, tree: str) -> None:
    assert benchmark.pedantic(pack_directory, (store.blobs, tree), rounds=5).descriptor.size > 0


@pytest.mark.root
def test_unpacking_a_thousand_files(
    benchmark: BenchmarkFixture, store: ImageStore, layer: Layer, tmp_path: Path
) -> None:
    rounds = iter(range(1000))

    def fresh() -> tuple[tuple[LayerStore, LayerSource], dict[str, object]]:
        layers = LayerStore(str(tmp_path / str(next(rounds))), store.blobs)
        source = LayerSource(descriptor=layer.descriptor, diff_id=layer.diff_id, chain_id=layer.diff_id)
        return (layers, source), {}

    benchmark.pedantic(LayerStore.directory, setup=fresh, rounds=5)


@pytest.mark.root
def test_finding_unpacked_layers_by_digest(benchmark: BenchmarkFixture, store: ImageStore, layer: Layer) -> None:
    digest = store.resolve("it").manifest_digest
    assert len(benchmark(store.layer_directories, digest)) == 1
    assert layer.descriptor in store.resolve(digest).layers


def test_chain_ids_of_forty_layers(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(chain_ids, [f"sha256:{number:064x}" for number in range(40)])) == 40
