"""Images for several platforms under one name, beside skopeo: pulled, kept, saved, made and pushed."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from kernel.containers.conftest import Lab
from kernel.registry.servers import registry

from lab.container.image.packages import debian_architecture
from lab.container.image.store import ImageStore
from lab.container.spec.image import REF_NAME, Descriptor, Index, Manifest, MediaType, Platform
from lab.container.storage.blobs import BlobStore

pytestmark = [pytest.mark.root, pytest.mark.needs("docker-registry"), pytest.mark.needs("skopeo")]

HOST = debian_architecture()
PLATFORMS = {"arm": "v6", "arm64": "v8", HOST: ""}
SHOWN = ("inspect", "-f", "{{.Architecture}}|{{.Variant}}")


@pytest.fixture
def name(lab: Lab, open_registry: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Return the name of an index at the registry, for three platforms, which skopeo has pushed."""
    layout = tmp_path / "layout"
    with ImageStore.open(lab.paths).content_shared():
        _write_index(ImageStore.open(lab.paths), layout)
    found = f"{open_registry}/{request.node.name.partition('[')[0].replace('_', '-')}:1"
    _skopeo("copy", "-q", "--all", "--dest-tls-verify=false", f"oci:{layout}:1", f"docker://{found}")
    return found


def _skopeo(*words: str) -> bytes:
    return subprocess.run(["skopeo", *words], check=True, capture_output=True).stdout


def _raw(name: str) -> bytes:
    return _skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")


def _write_index(store: ImageStore, layout: Path) -> None:
    """Write busybox as an OCI layout with one image, called 1, for our platforms."""
    store.export_oci_layout("busybox", "1", str(layout))
    image = store.resolve("busybox")
    blobs, entries = BlobStore(str(layout)), []
    for architecture, variant in PLATFORMS.items():
        config = replace(image.config, architecture=architecture, variant=variant).to_json()
        of_config = Descriptor(media_type=MediaType.CONFIG, digest=blobs.add(config), size=len(config))
        manifest = Manifest(config=of_config, layers=image.layers).to_json()
        platform = Platform(os="linux", architecture=architecture, variant=variant)
        entries.append(
            Descriptor(media_type=MediaType.MANIFEST, digest=blobs.add(manifest), size=len(manifest), platform=platform)
        )
    index = Index(manifests=tuple(entries)).to_json()
    of_index = Descriptor(
        media_type=MediaType.INDEX, digest=blobs.add(index), size=len(index), annotations={REF_NAME: "1"}
    )
    (layout / "index.json").write_bytes(Index(manifests=(of_index,)).to_json())


def test_platforms_that_are_pulled_one_by_one_are_kept_together_under_the_name(other: Lab, name: str) -> None:
    digests = set()
    for platform in ("arm", "linux/arm64"):
        digests.add(other.ok("pull", "--platform", platform, name).partition("Digest: ")[2].partition("\n")[0])
    assert other.ok(*SHOWN, name) == "arm|v6"  # without a choice the first that is there
    assert other.ok("image", *SHOWN, "--platform", "arm64", name) == "arm64|v8"
    missing = other("pull", "--platform", "linux/arm/v7", name)
    assert (missing.code, "no matching manifest for linux/arm/v7" in missing.err) == (1, True)
    assert "linux/arm/v6, linux/arm64/v8" in missing.err
    absent = other("image", "inspect", "--platform", f"linux/{HOST}", name)
    assert (absent.code, f"wanted linux/{HOST}, actual: linux/arm/v6, linux/arm64/v8" in absent.err) == (1, True)
    assert other.ok("run", "--rm", "--platform", f"linux/{HOST}", name, "echo", "hi") == "hi"  # which fetches it
    assert other.ok("inspect", "-f", "{{.Architecture}}", name) == HOST
    assert "Status: Image is up to date" in other.ok("pull", "--all-platforms", name)
    assert digests == {f"sha256:{hashlib.sha256(_raw(name)).hexdigest()}"}  # that of the index, for all
    assert len(other.ok("images", "-q").split()) == 1


def test_an_index_is_saved_and_loaded_with_its_images(other: Lab, name: str, tmp_path: Path) -> None:
    archive, copied = tmp_path / "all.tar", tmp_path / "copied"
    other.ok("pull", "-q", "--all-platforms", name)
    other.ok("save", "-o", str(archive), name)
    _skopeo("copy", "-q", "--all", f"oci-archive:{archive}:{name}", f"dir:{copied}")
    assert (copied / "manifest.json").read_bytes() == _raw(name)
    other.ok("rmi", name)
    assert ImageStore.open(other.paths).blobs.digests() == ()
    assert other.ok("load", "-i", str(archive)) == f"Loaded image: {name}"
    assert other.ok("image", *SHOWN, "--platform", "arm64", name) == "arm64|v8"
    assert other.ok("run", "--rm", name, "echo", "hi") == "hi"


def test_what_containers_of_another_platform_stand_on_stays(other: Lab, name: str) -> None:
    other.ok("pull", "--all-platforms", name)
    other.ok("create", "--platform", "arm64", "--name", "foreign", name, "true")
    assert "is being used by stopped container" in other("rmi", name).err
    assert other.ok("image", "prune", "-af").endswith("Total reclaimed space: 0B")
    one = other.ok("image", "inspect", "--platform", "arm64", "-f", "{{.Id}}", name)
    assert "it is one platform's image of an index" in other("rmi", one).err
    other.ok("rm", "foreign")
    assert one in other.ok("image", "prune", "-af")
    assert ImageStore.open(other.paths).blobs.digests() == ()


def test_an_index_is_pushed_whole_or_the_one_image_of_it_that_is_there(
    other: Lab, name: str, open_registry: str
) -> None:
    elsewhere = f"{open_registry}/elsewhere:1"
    other.ok("pull", "-q", name)
    other.ok("tag", name, elsewhere)
    assert "Not all multiplatform-content is present" in other.ok("push", elsewhere)
    assert json.loads(_raw(elsewhere))["mediaType"] == MediaType.MANIFEST
    other.ok("pull", "-q", "--platform", "arm64", name)
    refused = other("push", elsewhere)
    assert (refused.code, "linux/arm/v6" in refused.err, "--all-platforms" in refused.err) == (1, True, True)
    other.ok("push", "-q", "--platform", "arm64", elsewhere)
    assert json.loads(_skopeo("inspect", "--config", "--tls-verify=false", f"docker://{elsewhere}"))["variant"] == "v8"
    other.ok("pull", "-q", "--all-platforms", name)
    other.ok("push", "-q", elsewhere)
    assert _raw(elsewhere) == _raw(name)


def test_an_index_is_made_of_images_and_pushed(other: Lab, name: str, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as host:  # of its own, which has nothing yet
        both = f"{host}/team/made:1"
        other.ok("pull", "-q", "--all-platforms", name)
        for architecture in ("arm64", HOST):
            one = other.ok("image", "inspect", "--platform", architecture, "-f", "{{.Descriptor.digest}}", name)
            other.ok("tag", one, f"made:{architecture}")
        assert other.ok("manifest", "create", both, "made:arm64") == f"Created manifest list {both}"
        assert "--amend" in other("manifest", "create", both, f"made:{HOST}").err
        other.ok("manifest", "create", "--amend", both, f"made:{HOST}")
        other.ok("manifest", "push", both)
        document = json.loads(_raw(both))
        assert [each["platform"]["architecture"] for each in document["manifests"]] == ["arm64", HOST]
        assert json.loads(other.ok("manifest", "inspect", both)) == document
        _skopeo("copy", "-q", "--all", "--src-tls-verify=false", f"docker://{both}", f"dir:{tmp_path}/copy")
        other.ok("manifest", "rm", both)
        assert json.loads(other.ok("manifest", "inspect", both)) == document  # which is at the registry still
