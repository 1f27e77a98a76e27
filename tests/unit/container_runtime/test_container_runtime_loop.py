"""The event loop lets everything have its turn."""

from __future__ import annotations

import os

from lab.container.loop import Loop


def test_what_asks_to_come_again_at_once_does_not_keep_the_rest_from_happening() -> None:
    loop = Loop()
    calls: list[str] = []
    source, target = os.pipe()

    def again() -> None:
        calls.append("timer")
        if len(calls) < 1000:  # or a fault would never end
            loop.later(1, again)

    def on_readable(_: int) -> None:
        calls.append(os.read(source, 16).decode())

    try:
        loop.watch(source, on_readable)
        loop.later(0, again)
        os.write(target, b"pipe")
        for _ in range(3):
            loop.step()
    finally:
        loop.forget(source)
        os.close(source)
        os.close(target)
    assert "pipe" in calls
    assert calls.count("timer") <= 3


def test_a_step_that_is_not_to_wait_for_ever_says_whether_something_came() -> None:
    loop = Loop()
    source, target = os.pipe()
    due: list[str] = []
    try:
        assert not loop.step(0)
        loop.watch(source, lambda _: due.append(os.read(source, 1).decode()))
        assert loop.descriptors == (source,)
        loop.later(0, lambda: due.append("timer"))
        assert loop.has_timers
        assert not loop.step(10**9)  # what was due does not count
        assert not loop.has_timers
        os.write(target, b"x")
        assert loop.step(10**9)
    finally:
        loop.forget(source)
        os.close(source)
        os.close(target)
    assert due == ["timer", "x"]
