"""What a health check is, and what each of its results makes of what is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container import health, supervision
from lab.container.options.health import HealthPlan, effective, plan, refuse_too_short
from lab.container.spec.image import Healthcheck
from lab.errors import SpecError
from lab.units import NS_PER_MS, NS_PER_S

STARTED_NS = 1_000 * NS_PER_S


def _check(*, retries: int = 3, start_period_ns: int = 0) -> health.Check:
    return health.Check((b"", "", ("", ""), 30 * NS_PER_S, NS_PER_S, start_period_ns, 5 * NS_PER_S, retries, "none"))


def _result(code: int, *, after_s: int = 100) -> health.Result:
    began_ns = STARTED_NS + after_s * NS_PER_S
    return (began_ns, began_ns + 1, code, b"")


def test_a_user_changes_single_fields_of_the_images_check() -> None:
    image = Healthcheck(test=("CMD", "curl", "localhost"), interval=1, timeout=2, retries=4)
    given = Healthcheck(timeout=7)
    assert effective(given, image) == Healthcheck(test=("CMD", "curl", "localhost"), interval=1, timeout=7, retries=4)


def test_none_turns_the_images_check_off() -> None:
    image = Healthcheck(test=("CMD", "true"))
    assert plan(effective(Healthcheck(test=("NONE",)), image), ()) is None
    assert plan(effective(None, None), ()) is None


def test_what_nobody_says_is_dockers_default() -> None:
    assert plan(Healthcheck(test=("CMD-SHELL", "exit 1")), ()) == HealthPlan(
        args=("/bin/sh", "-c", "exit 1"),
        interval_ns=30 * NS_PER_S,
        timeout_ns=30 * NS_PER_S,
        start_period_ns=0,
        start_interval_ns=5 * NS_PER_S,
        retries=3,
    )


def test_the_images_shell_runs_the_command() -> None:
    found = plan(Healthcheck(test=("CMD-SHELL", "true")), ("/bin/ash", "-ec"))
    assert found is not None
    assert found.args == ("/bin/ash", "-ec", "true")


def test_it_is_unhealthy_after_as_many_failures_in_a_row_as_are_asked_for() -> None:
    known = health.Health()
    seen = []
    for code in (1, 1, 0, 1, 1, 1, 0):
        known = known.after(_result(code), _check(), STARTED_NS)
        seen.append((known.status, known.failing_streak))
    assert seen == [
        ("starting", 1),
        ("starting", 2),
        ("healthy", 0),
        ("healthy", 1),
        ("healthy", 2),
        ("unhealthy", 3),
        ("healthy", 0),
    ]


def test_failures_in_the_start_period_do_not_count_until_it_has_worked_once() -> None:
    check = _check(retries=1, start_period_ns=50 * NS_PER_S)
    known = health.Health().after(_result(1, after_s=49), check, STARTED_NS)
    assert (known.status, known.failing_streak) == ("starting", 0)
    known = known.after(_result(0, after_s=49), check, STARTED_NS).after(_result(1, after_s=49), check, STARTED_NS)
    assert known.status == "unhealthy"
    assert health.Health().after(_result(1, after_s=51), check, STARTED_NS).status == "unhealthy"


def test_it_is_asked_more_often_while_it_starts() -> None:
    check = _check(start_period_ns=50 * NS_PER_S)
    assert check.delay_ns(health.Health(), 49 * NS_PER_S) == 5 * NS_PER_S
    assert check.delay_ns(health.Health(), 51 * NS_PER_S) == 30 * NS_PER_S
    assert check.delay_ns(health.Health(health.HEALTHY), 49 * NS_PER_S) == 30 * NS_PER_S


@given(st.lists(st.integers(min_value=-1, max_value=255), max_size=30))
def test_the_last_five_results_are_kept_in_order(codes: list[int]) -> None:
    known = health.Health()
    for code in codes:
        known = known.after(_result(code), _check(), STARTED_NS)
    assert [result[2] for result in known.results] == codes[-5:]


def test_the_delay_before_a_restart_doubles_up_to_a_minute() -> None:
    delay_ns, seen = 0, []
    for _ in range(12):
        delay_ns = supervision.restart_delay_ns(delay_ns, NS_PER_S)
        seen.append(delay_ns / NS_PER_S)
    assert seen == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60]
    assert supervision.restart_delay_ns(delay_ns, 10 * NS_PER_S) == 100_000_000


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start_period", "StartPeriod"),
        ("start_interval", "StartInterval"),
    ],
)
def test_a_time_below_a_millisecond_is_refused_and_none_is_the_default(field: str, name: str) -> None:
    for time_ns in (0, NS_PER_MS):
        refuse_too_short(Healthcheck(test=("CMD", "true"), **{field: time_ns}))
    with pytest.raises(SpecError, match=rf"^{name} in Healthcheck cannot be less than 1ms$"):
        refuse_too_short(Healthcheck(test=("CMD", "true"), **{field: NS_PER_MS - 1}))
