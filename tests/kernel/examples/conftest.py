"""A root with the images that the examples build on; they are made once for this machine's installation, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from lab.container.image.bootstrap import BaseImage, bootstrap, bootstrap_with_packages
from lab.container.image.store import ImageStore
from lab.container.network import apply
from lab.paths import Paths

from ..containers.conftest import Lab, lab_root, remove_containers
from .walkthrough import bases

__all__ = ["lab_root"]


@pytest.fixture(scope="session")
def base_archive(paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return what gives an archive of an image that examples build on, made when it is first asked for."""
    directory = tmp_path_factory.mktemp("archives")

    @cache
    def archive(name: str) -> str:
        store = ImageStore.open(paths)
        if name == BaseImage.BUSYBOX:
            made = bootstrap(store, BaseImage.BUSYBOX, progress=lambda _: None)
        else:
            made = bootstrap_with_packages(store, name, bases()[name], progress=lambda _: None)
        path = str(directory / f"{name}.tar")
        store.export_docker_archive(made.image.manifest_digest, name, path)
        return path

    return archive


@pytest.fixture
def lab(lab_root: Lab) -> Iterator[Lab]:
    """Return the command line; every container of the test is removed, and all that its network has made."""
    yield lab_root
    remove_containers(lab_root)
    lab_root.ok("network", "prune", "-f")
    apply.remove_bridge(lab_root.paths)
