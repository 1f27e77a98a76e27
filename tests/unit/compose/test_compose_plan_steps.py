"""Steps are carried out each after what it waits for, side by side where nothing is waited for."""

from __future__ import annotations

import select
import threading

import pytest

from lab.compose.steps import Action, Cancellation, KeepContainer, Step, carry_out


def step(name: str, *after: str) -> Step:
    return Step(key=name, action=KeepContainer(name=name), after=after)


def name_of(action: Action) -> str:
    assert isinstance(action, KeepContainer)
    return action.name


def test_each_step_comes_after_those_that_it_waits_for() -> None:
    done: list[str] = []
    steps = [step("c", "a", "b"), step("b", "a"), step("a"), step("d", "nobody")]
    carry_out(steps, lambda action, _: done.append(name_of(action)), side_by_side=4)
    assert sorted(done) == ["a", "b", "c", "d"]
    assert done.index("a") < done.index("b") < done.index("c")


def test_steps_that_do_not_wait_for_each_other_are_done_side_by_side() -> None:
    both = threading.Barrier(2, timeout=10)

    def perform(_: Action, __: Cancellation) -> None:
        both.wait()

    carry_out([step("a"), step("b")], perform, side_by_side=2)


def test_a_failure_lets_nothing_begin_and_what_waits_give_up_and_is_what_is_told() -> None:
    done: list[str] = []
    waits = threading.Event()

    def perform(action: Action, cancellation: Cancellation) -> None:
        name = name_of(action)
        if name == "fails":
            assert waits.wait(10)
            raise ValueError(name)
        if name == "waits":
            waits.set()
            assert select.select([cancellation.descriptor], [], [], 10)[0], "nobody has told it"
            raise RuntimeError("given up")
        done.append(name)

    with pytest.raises(ValueError, match="fails"):
        carry_out([step("fails"), step("waits"), step("later", "fails")], perform, side_by_side=2)
    assert done == []


def test_nothing_to_do_is_done_at_once() -> None:
    carry_out([], lambda _, __: None, side_by_side=1)
