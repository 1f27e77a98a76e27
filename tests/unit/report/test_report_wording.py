"""How a page writes what it shows."""

from __future__ import annotations

import pytest

from lab.bench.model import Unit
from lab.report import wording
from lab.units import writer


@pytest.mark.parametrize("unit", list(Unit))
def test_every_unit_of_the_model_can_be_written(unit: Unit) -> None:
    assert writer(unit)(1.0)


def test_an_axis_drops_the_zeros_that_say_nothing() -> None:
    assert wording.tick(Unit.NANOSECONDS)(2_000_000) == "2 ms"
