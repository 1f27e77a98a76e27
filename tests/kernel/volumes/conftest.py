"""The command line of the containers' tests, on a root without volumes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.container.volumes.store import VolumeStore

from ..containers.conftest import Lab, lab_root, remove_containers

__all__ = ["lab_root"]


@pytest.fixture
def lab(lab_root: Lab) -> Iterator[Lab]:
    """Return the command line; containers and volumes of the test are removed, and nothing of one is left."""
    yield lab_root
    remove_containers(lab_root)
    store = VolumeStore(lab_root.paths)
    store.remove_unfinished()
    for volume in store.all():
        store.remove(volume.name)
