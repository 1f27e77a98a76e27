"""Signals have the names and numbers that docker's users give them."""

from __future__ import annotations

import signal

import pytest

from lab.container.options.configure import Surroundings, configure
from lab.container.options.run import RunOptions
from lab.container.options.signals import signal_number
from lab.container.spec.image import ExecutionConfig
from lab.errors import SpecError


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("kill", 9), ("SIGKILL", 9), ("RTMIN+3", signal.SIGRTMIN + 3), ("SIGRTMAX-2", signal.SIGRTMAX - 2)],
)
def test_a_signal_is_known_by_number_and_name(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "-9", "FOO", "_IGN", "KILL+3", "RTMIN+99", "RTMIN+", "²"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="invalid signal"):
        signal_number(text)


def _configured(options: RunOptions) -> str:
    around = Surroundings(bounding_set=0, read=lambda _: "")
    return configure("c1", options, ExecutionConfig(), ("/layer",), around).config.cgroup_parent


def test_a_stop_signal_is_refused_before_anything_would_have_to_be_stopped_by_it() -> None:
    with pytest.raises(SpecError, match="invalid signal: FOO"):
        _configured(RunOptions(image="x", command=("true",), stop_signal="FOO"))


@pytest.mark.parametrize(
    ("asked", "got"), [("", "lab"), ("/a/b/", "a/b"), ("../../x", "x"), ("a/../../..", "lab"), ("/", "lab")]
)
def test_no_parent_lies_outside_of_the_control_groups(asked: str, got: str) -> None:
    assert _configured(RunOptions(image="x", command=("true",), cgroup_parent=asked)) == got
