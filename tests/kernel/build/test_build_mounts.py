"""``RUN --mount`` gives a command what the image is not to keep."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lab.errors import BuildFailed

if TYPE_CHECKING:
    from conftest import Yard

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]


def test_a_cache_is_kept_from_build_to_build_and_out_of_the_image(yard: Yard) -> None:
    line = "RUN --mount=type=cache,target=/root/.cache echo x >> /root/.cache/f && wc -l < /root/.cache/f > /n"
    yard.build(line)
    image = yard.build(line, use_cache=False)
    assert yard.read(image, "/n") == "2\n"
    assert yard.changed(image) == ["n"]


def test_a_cache_has_owner_and_mode_and_can_be_read_only(yard: Yard) -> None:
    image = yard.build(
        "RUN --mount=type=cache,id=c,target=/c,uid=7,gid=8,mode=0711 stat -c %u:%g:%a /c > /n\n"
        "RUN --mount=type=cache,id=c,target=/c,ro touch /c/x || echo ro > /m"
    )
    assert (yard.read(image, "/n"), yard.read(image, "/m")) == ("7:8:711\n", "ro\n")


def test_steps_side_by_side_share_wait_or_have_their_own(yard: Yard) -> None:
    def text(sharing: str) -> str:
        step = f"RUN --mount=type=cache,id={sharing},sharing={sharing},target=/c"
        job = "test -e /c/busy && echo taken > /n; touch /c/busy /n; sleep 0.3; rm -f /c/busy"
        stages = "".join(f"FROM busybox AS s{n}\n{step} echo {n}; {job}\n" for n in (1, 2))
        return f"{stages}FROM busybox\nCOPY --from=s1 /n /1\nCOPY --from=s2 /n /2"

    for sharing in ("locked", "private"):
        image = yard.build(text(sharing))
        assert yard.read(image, "/1") + yard.read(image, "/2") == ""
    image = yard.build(text("shared"))
    assert yard.read(image, "/1") + yard.read(image, "/2") == "taken\n"


def test_files_of_context_and_stage_are_seen_but_not_kept(yard: Yard) -> None:
    text = (
        "FROM busybox AS make\nRUN mkdir /o && echo made > /o/f\nFROM busybox\n"
        "RUN --mount=target=/ctx --mount=from=make,source=/o,target=/o,ro cat /ctx/a /o/f > /n; touch /ctx/x || true"
    )
    image = yard.build(text, {"a": "1\n"})
    assert yard.read(image, "/n") == "1\nmade\n"
    assert yard.changed(image) == ["n"]
    assert not os.path.exists(os.path.join(yard.context, "x"))
    yard.build(text, {"a": "2\n"})
    assert not any(step.startswith("RUN --mount") for step in yard.seen.found)


def test_a_secret_is_there_only_while_it_is_asked_for(yard: Yard) -> None:
    image = yard.build(
        "RUN --mount=type=secret,id=s cat /run/secrets/s; stat -c %a /run/secrets/s\n"
        "RUN --mount=type=secret,id=s,target=/t,mode=0444,uid=5 cat /t && stat -c %u:%a /t\n"
        "RUN --mount=type=secret,id=s,env=S echo $S\nRUN --mount=type=secret,id=none test ! -e /run/secrets/none",
        secrets={"s": b"hush\n"},
    )
    assert yard.seen.output == "hush\n400\nhush\n5:444\nhush\n"
    kept = " ".join((*yard.files(image), *(step.created_by for step in image.config.history)))
    assert "hush" not in kept
    assert "secrets" not in " ".join(yard.files(image))
    assert not [name for name in os.listdir(yard.paths.run) if name.startswith("secret")]


def test_a_tmpfs_is_empty_and_gone(yard: Yard) -> None:
    image = yard.build("RUN --mount=type=tmpfs,target=/t,size=1m mount | grep ' /t ' && touch /t/x")
    assert "size=1024k" in yard.seen.output
    assert "t/x" not in yard.files(image)


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ("type=bind,source=none,target=/t", "none is not in build context"),
        ("type=bind,rw,target=/t", "not supported"),
        ("type=bind,from=busybox,source=/none,target=/t", "none is not in busybox"),
    ],
)  # fmt: skip
def test_what_cannot_be_mounted_is_told(yard: Yard, mount: str, words: str) -> None:
    with pytest.raises(BuildFailed, match=words):
        yard.build(f"RUN --mount={mount} true")
