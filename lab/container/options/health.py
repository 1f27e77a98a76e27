"""Which health check a container has: what its user says over what its image says, over docker's defaults; pure.

Source: docs.docker.com/reference/dockerfile, HEALTHCHECK; github.com/moby/moby, daemon/commit.go and daemon/health.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.container.spec.image import Healthcheck
from lab.errors import SpecError
from lab.units import NS_PER_MS, NS_PER_S

_INTERVAL_NS = _TIMEOUT_NS = 30 * NS_PER_S
_START_INTERVAL_NS = 5 * NS_PER_S
_RETRIES = 3
_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPlan:
    """What is run to find out whether a container works, and when; nothing is left to defaults."""

    args: tuple[str, ...]
    interval_ns: int
    timeout_ns: int
    start_period_ns: int
    start_interval_ns: int
    retries: int


def refuse_too_short(check: Healthcheck) -> None:
    """Raise for a time that is given and below the least.

    Raises:
        SpecError: in docker's words.
    """
    times = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
    }
    for name, time_ns in times.items():
        if 0 < time_ns < NS_PER_MS:
            raise SpecError(f"{name} in Healthcheck cannot be less than 1ms", hint="such as 30s; 0 for the default")


def effective(given: Healthcheck | None, image: Healthcheck | None) -> Healthcheck | None:
    """Return the check that counts: each field of ``given`` that is not empty, else the image's."""
    if given is None or image is None:
        return given or image
    return Healthcheck(
        test=given.test or image.test,
        interval=given.interval or image.interval,
        timeout=given.timeout or image.timeout,
        start_period=given.start_period or image.start_period,
        start_interval=given.start_interval or image.start_interval,
        retries=given.retries or image.retries,
    )


def plan(check: Healthcheck | None, shell: tuple[str, ...]) -> HealthPlan | None:
    """Return what a check comes to, None for none; ``shell`` is the image's, empty for /bin/sh."""
    kind, *words = check.test if check is not None and check.test else ("NONE",)
    if check is None or kind == "NONE" or not words:
        return None
    return HealthPlan(
        args=(*(shell or _SHELL), words[0]) if kind == "CMD-SHELL" else tuple(words),
        interval_ns=check.interval or _INTERVAL_NS,
        timeout_ns=check.timeout or _TIMEOUT_NS,
        start_period_ns=check.start_period,
        start_interval_ns=check.start_interval or _START_INTERVAL_NS,
        retries=check.retries or _RETRIES,
    )
