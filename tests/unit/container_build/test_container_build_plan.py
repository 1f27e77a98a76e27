"""Stages are found by name or number, and a step's key depends on its inputs alone."""

from __future__ import annotations

import dataclasses

import pytest

from lab.container.image.build_plan import StepInputs, cache_key, find_stage, stages
from lab.container.image.dockerfile import parse_dockerfile
from lab.errors import SpecError

INPUTS = StepInputs(parent="p", instruction="RUN x", environment={"a": "1", "b": "2"}, content=("c",))


def test_a_key_does_not_change_between_versions() -> None:
    assert cache_key(INPUTS) == "174b483bef056ebe452a944c49569650bdc603981c3f936f013797b84551a5e2"


def test_the_order_of_variables_does_not_change_a_key() -> None:
    assert cache_key(dataclasses.replace(INPUTS, environment={"b": "2", "a": "1"})) == cache_key(INPUTS)


@pytest.mark.parametrize("change", [{"parent": "q"}, {"instruction": "RUN y"}, {"environment": {}}, {"content": ()}])
def test_each_input_changes_a_key(change: dict[str, object]) -> None:
    assert cache_key(dataclasses.replace(INPUTS, **change)) != cache_key(INPUTS)  # type: ignore[arg-type]


def test_a_target_is_a_name_or_a_number() -> None:
    found = stages(parse_dockerfile("ARG v\nFROM a AS One\nRUN x\nFROM b\nUSER u"))
    assert [find_stage(found, target).index for target in ("one", "ONE", "0", "1", "")] == [0, 0, 0, 1, 1]
    assert [len(stage.instructions) for stage in found] == [1, 1]
    with pytest.raises(SpecError, match="could not be found"):
        find_stage(found, "2")
