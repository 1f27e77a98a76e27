"""Names of images, and archives, with docker and with the lab.

What differs on purpose stands in the table with its reason. How a script is written is said in ``transcript.py``. Of
error messages only what both say is compared: docker's own client words them differently from version to version.
"""

from __future__ import annotations

import pytest
from clients.transcript import Case, Engine, check

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]

IMAGES = {
    "names": Case(
        script="""
q tag busybox a:1
q tag busybox b:1
e images --format '{{.Repository}}:{{.Tag}}' --filter reference='[ab]' > list; sort list
e rmi a:1
e rmi a:1
e rmi nosuch
q create --name cc b:1 true
e rmi b:1
e tag nosuch x
e tag busybox 'X:y'
e tag busybox
e tag busybox a/b/c:d_e.f-g
e images -q a/b/c
e images --no-trunc --format '{{.ID}}' a/b/c
e images nosuch
e images -f reference='a/*/c' --format '{{.Repository}}'
e images -f nosuch=1
e rmi a/b/c:d_e.f-g nosuch
e history -q busybox
e history --no-trunc --format '{{.CreatedBy}}' busybox
e history nosuch
e image inspect -f '{{.Os}}/{{.Architecture}}' busybox
e image inspect nosuch
e rmi
e image rm nosuch
""",
        says=("No such image: nosuch:latest", "must be lowercase", "invalid filter 'nosuch'"),
    ),
    "save-load": Case(
        script="""
q tag busybox s:1
e save -o s.tar s:1
e rmi s:1
e load -i s.tar
e images -q s
e save s:1 | e load
e save nosuch
e load -i nosuch
echo junk > junk; e load -i junk
e rmi s:1
""",
        says=("No such image: nosuch", "nosuch: no such file or directory"),
    ),
}


@pytest.mark.parametrize("name", list(IMAGES))
def test_images_are_the_same(name: str, engines: tuple[Engine, Engine]) -> None:
    check(IMAGES[name], engines)
