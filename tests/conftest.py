"""What every test may lean on: host needs through the doctor, and the proof that nothing is left behind.

This is the one place that reads LAB_REQUIRE, a list of check names (``essentials`` stands for all essential checks): a
test whose need is missing here is skipped with the doctor's reason, but fails if that need is required.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import leftovers
import pytest
from hypothesis import HealthCheck, settings

from lab.errors import SpecError
from lab.paths import Paths
from lab.target import doctor

# A busy machine makes slow inputs of simple ones; how long something takes is a benchmark's question.
settings.register_profile("lab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lab")

_FINDINGS = pytest.StashKey[dict[str, doctor.Finding]]()
_HOST_TESTS = ("kernel", "guest", "contract")
_PURE_TESTS = frozenset(("unit", "meta"))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FINDINGS] = {}
    for name in _required() - {"essentials"}:
        _check_exists(name, "LAB_REQUIRE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in _needs(item):
            _check_exists(name, item.nodeid)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in _needs(item):
        finding = _find(item.config, name)
        if finding.availability.available:
            continue
        if name in _required() or ("essentials" in _required() and finding.check.essential):
            pytest.fail(f"required, but not to be had: {_reason(finding)}", pytrace=False)
        pytest.skip(_reason(finding))


@pytest.fixture(scope="session")
def paths() -> Paths:
    """Return this machine's installation: its images, guest kernel and caches are kept from run to run."""
    return Paths.default()


@pytest.fixture
def fresh_paths() -> Iterator[Paths]:
    """Return an empty installation that is removed afterwards."""
    root = tempfile.mkdtemp(prefix="lab-test-")
    yield Paths.under(root)
    shutil.rmtree(root)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_by_the_session(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the run if a process, mount, link, cgroup, rule or file outlives it.

    Pure tests run beside those that work on the host, so of theirs only the processes are told apart.
    """
    is_pure = all(_PURE_TESTS.intersection(item.path.parts) for item in request.session.items)
    look = leftovers.processes if is_pure else leftovers.everything
    with leftovers.marked_children():
        before = look()
        yield
        lost = leftovers.wait_until_gone(before, look)
    if lost:
        pytest.fail("left behind by this test run:\n  " + "\n  ".join(lost), pytrace=False)


@pytest.fixture(autouse=True)
def nothing_is_left_by_the_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that works on the host if a mount, link or cgroup outlives it."""
    if not any(part in _HOST_TESTS for part in request.path.parts):
        yield
        return
    before = leftovers.kernel_objects()
    yield
    lost = leftovers.wait_until_gone(before, leftovers.kernel_objects)
    if lost:
        pytest.fail("left behind by this test:\n  " + "\n  ".join(lost), pytrace=False)


def _required() -> frozenset[str]:
    return frozenset(name.strip() for name in os.environ.get("LAB_REQUIRE", "").split(",") if name.strip())


def _needs(item: pytest.Item) -> list[str]:
    names = [name for marker in item.iter_markers("needs") for name in marker.args]
    return (["root"] if item.get_closest_marker("root") else []) + names


def _check_exists(name: str, where: str) -> None:
    try:
        doctor.find_check(name)
    except SpecError as error:
        raise pytest.UsageError(f"{where}: {error} ({error.hint})") from error


def _find(config: pytest.Config, name: str) -> doctor.Finding:
    findings = config.stash[_FINDINGS]
    if name not in findings:
        findings[name] = doctor.examine(doctor.find_check(name), Paths.default())
    return findings[name]


def _reason(finding: doctor.Finding) -> str:
    name, availability = finding.check.name, finding.availability
    subject = "" if availability.reason.startswith(name) else f"{name}: "
    return f"{subject}{availability.reason}" + (f" ({availability.hint})" if availability.hint else "")
