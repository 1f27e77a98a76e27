"""What a terminal and a pipe show of a pull."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from lab.cli.registry_progress import LayerLines, bar
from lab.container.registry.progress import Step

LAYER = "sha256:0123456789abcdef"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_a_line_for_each_step_and_none_for_what_moves() -> None:
    stream = io.StringIO()
    lines = LayerLines(stream)
    lines.told("1: Pulling from app")
    lines.layer(LAYER, Step.PULLING)
    for done in (1, 2, 3):
        lines.layer(LAYER, Step.DOWNLOADING, done_bytes=done, of_bytes=3)
    lines.layer(LAYER, Step.DOWNLOADED)
    lines.layer(LAYER, Step.MOUNTED, detail="team/app")
    assert stream.getvalue() == (
        "1: Pulling from app\n"
        "0123456789ab: Pulling fs layer\n"
        "0123456789ab: Download complete\n"
        "0123456789ab: Mounted from team/app\n"
    )


def test_a_terminal_gets_a_row_for_each_layer_rewritten_in_place() -> None:
    stream = _Terminal()
    lines = LayerLines(stream)
    lines.layer("sha256:aaaaaaaaaaaaaa", Step.PULLING)
    lines.layer("sha256:bbbbbbbbbbbbbb", Step.PULLING)
    lines.layer("sha256:aaaaaaaaaaaaaa", Step.DOWNLOADING, done_bytes=1, of_bytes=2)
    lines.told("Digest: x")
    rows = stream.getvalue().split("\r\x1b[K")
    assert rows[-1] == "bbbbbbbbbbbb: Pulling fs layer\nDigest: x\n"
    assert rows[-2].startswith("aaaaaaaaaaaa: Downloading [====")
    assert "\x1b[2A" in stream.getvalue()


def test_quiet_shows_nothing() -> None:
    stream = io.StringIO()
    lines = LayerLines(stream, quiet=True)
    lines.told("x")
    lines.layer(LAYER, Step.PULLED)
    assert stream.getvalue() == ""


@given(st.integers(0, 1 << 50), st.integers(1, 1 << 50))
def test_a_bar_is_always_as_wide(done: int, whole: int) -> None:
    assert bar(min(done, whole), whole).index("]") == 51
