"""Containers that want their files' copying to reach the host: links that appear, libraries that would be loaded."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from kernel.containers.conftest import Lab

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

_ROUNDS = 12
_SWAP = """
mkdir -p /d/real /d/x; echo inside > /d/real/secret; ln -s "$1" /d/link; mv /d/real /d/t; echo up
while :; do mv /d/t /d/real; mv /d/link /d/t; mv /d/t /d/link; mv /d/real /d/t; done
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a directory of the host that a container wants to read and to change."""
    (tmp_path / "secret").write_text("of the host")
    return tmp_path


def test_a_directory_that_becomes_a_link_while_cp_walks_leads_nowhere_on_the_host(lab: Lab, outside: Path) -> None:
    lab.ok("run", "-d", "--name", "cc", "busybox", "sh", "-c", _SWAP, "sh", str(outside))
    evil = outside.parent / "evil"
    evil.mkdir(exist_ok=True)
    (evil / "planted").write_text("planted")
    for _ in range(_ROUNDS):
        out = lab.begin("cp", "cc:/d/t/.", "-").communicate()[0]
        assert b"of the host" not in out
        lab("cp", f"{evil}/.", "cc:/d/t")
        lab("cp", f"{evil}/planted", "cc:/d/t/secret")
    assert [(each.name, each.read_text()) for each in outside.iterdir()] == [("secret", "of the host")]


def test_a_link_to_the_host_is_the_containers_own_path(lab: Lab, outside: Path, tmp_path: Path) -> None:
    lab.ok("run", "--name", "cc", "busybox", "sh", "-c", f"ln -s {outside} /up; ln -s ../../../../{outside} /dots")
    (source := tmp_path / "planted").write_text("planted")
    before = sorted(os.listdir(outside))
    for link in ("/up", "/dots"):
        assert lab("cp", f"cc:{link}/secret", "-").code == 1
        assert lab("cp", str(source), f"cc:{link}/new").code == 1
    assert sorted(os.listdir(outside)) == before


def test_no_module_and_no_library_of_a_container_is_loaded(lab: Lab, tmp_path: Path) -> None:
    """CVE-2019-14271: what copies looks up names, or encodings, in libraries that the container has put there."""
    tree = tmp_path / "tree"
    for directory in (each for each in sys.path if os.path.isdir(each)):
        planted = tree / directory.lstrip("/")
        planted.mkdir(parents=True, exist_ok=True)
        for name in sys.stdlib_module_names:
            (planted / f"{name}.py").write_text("open('/loaded', 'a').write(__name__)\n")
    (tree / "etc").mkdir()
    (tree / "etc/nsswitch.conf").write_text("passwd: evil files\ngroup: evil files\n")
    for directory in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64"):
        (tree / directory).mkdir(parents=True, exist_ok=True)
        for name in ("evil", "files", "compat"):
            (tree / directory / f"libnss_{name}.so.2").write_bytes(_library(tmp_path))
    lab.ok("run", "-d", "--name", "cc", "busybox", "sleep", "1000000")
    lab.ok("cp", f"{tree}/.", "cc:/")
    for _ in ("running", "stopped"):
        lab.ok("cp", "cc:/etc", str(tmp_path / "copied"))
        lab.ok("cp", "-a", str(tmp_path / "copied"), "cc:/again")
        lab.ok("cp", "-L", "cc:/etc/passwd", str(tmp_path / "passwd"))
        lab.ok("export", "-o", str(tmp_path / "all.tar"), "cc")
        lab.ok("commit", "cc", "committed")
        assert "/loaded" not in lab.ok("diff", "cc").splitlines()
        lab("kill", "cc")
        lab.ok("wait", "cc")
    lab.ok("rm", "cc")
    lab.ok("rmi", "committed")
    assert not os.path.exists("/loaded")


def _library(directory: Path) -> bytes:
    """Return a library that leaves a mark when it is loaded; without a compiler, one that cannot be loaded."""
    source, target = directory / "evil.c", directory / "evil.so"
    source.write_text(
        '#include <fcntl.h>\n__attribute__((constructor)) void f(void) { open("/loaded", O_CREAT, 0600); }\n'
    )
    done = subprocess.run(["gcc", "-shared", "-fPIC", "-o", target, source], check=False, capture_output=True)
    return target.read_bytes() if done.returncode == 0 else b"no library"


@pytest.mark.parametrize("name", ["a\nb", "-x", "\udcff\udcfe", " ", "a" * 255, ".wh.x", ".wh..wh..opq"])
def test_any_name_goes_in_and_out_of_a_container(lab: Lab, tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_text("content")
    lab.ok("create", "--name", "cc", "busybox", "true")
    lab.ok("cp", f"{tmp_path}/in", "cc:/d")
    lab.ok("cp", "cc:/d", f"{tmp_path}/out")
    assert [(each.name, each.read_text()) for each in (tmp_path / "out").iterdir()] == [(name, "content")]
    data = lab.begin("export", "cc").communicate()[0]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert f"d/{name}" in tar.getnames()
