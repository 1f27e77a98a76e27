"""A root with the image that the examples build on; it is made once for this machine's installation, and kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.container.image.bootstrap import bootstrap_with_packages
from lab.container.image.store import ImageStore
from lab.container.network import apply
from lab.paths import Paths

from ..containers.conftest import Lab, lab_root, remove_containers
from .walkthrough import BASE_IMAGE, BASE_PACKAGES

__all__ = ["lab_root"]


@pytest.fixture(scope="session")
def base_archive(paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an archive of the image that the examples build on."""
    store = ImageStore.open(paths)
    made = bootstrap_with_packages(store, BASE_IMAGE, BASE_PACKAGES, progress=lambda _: None)
    archive = str(tmp_path_factory.mktemp("archive") / "node.tar")
    store.export_docker_archive(made.image.manifest_digest, BASE_IMAGE, archive)
    return archive


@pytest.fixture(scope="session")
def lab_with_base(lab_root: Lab, base_archive: str) -> Lab:
    """Return the command line on a root with that image."""
    lab_root.ok("load", "-q", "-i", base_archive)
    return lab_root


@pytest.fixture
def lab(lab_with_base: Lab) -> Iterator[Lab]:
    """Return the command line; every container of the test is removed, and all that its network has made."""
    yield lab_with_base
    remove_containers(lab_with_base)
    apply.remove_bridge(lab_with_base.paths)
