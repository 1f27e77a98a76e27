"""Our own root tests once more, on a real host whose only cgroup hierarchy is v2.

One boot serves all tests of this file; under emulation it takes minutes, so what runs inside is chosen: all that a
unified hierarchy can break.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("qemu"), pytest.mark.needs("virtiofsd"), pytest.mark.timeout(700)]

_ISOLATION = (
    "every_namespace_is_the_containers_own",
    "layers_are_found_whatever_their_names_and_the_first_is_on_top",
    "the_cgroup_directory_is_read_only_and_shows_the_own_cgroup",
    "the_devices_are_dockers_and_a_disk_cannot_be_opened",
    "capabilities_are_dockers_within_the_hosts_bounding_set",
    "the_system_call_filter_is_on_and_denies_with_eperm",
    "a_read_only_bind_is_read_only_below_as_well",
)
INSIDE = (
    "tests/kernel/linux/test_linux_bpf.py",
    "tests/kernel/linux/test_linux_cgroup.py",
    "tests/kernel/runtime/test_runtime_devices.py",
    "tests/kernel/runtime/test_runtime_lifecycle.py",
    "tests/kernel/runtime/test_runtime_limits.py",
    *(f"tests/kernel/runtime/test_runtime_isolation.py::test_{name}" for name in _ISOLATION),
)
AT_LEAST = 55
EXPECTED_SKIPS: dict[str, str] = {}  # the name of a test, and why it cannot run inside

# Nothing of the host's temporary directories is shown, since others change it meanwhile; the checkout may lie in one.
COMMAND = """
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
cat /sys/fs/cgroup/cgroup.controllers; grep -c cgroup /proc/mounts
mkdir /run/checkout && mount --bind {root} /run/checkout
mount -t tmpfs -o mode=1777 tmpfs /tmp && mount -t tmpfs -o mode=1777 tmpfs /var/tmp
mkdir -p {root} && mount --bind /run/checkout {root} && cd {root} || exit
exec {python} -m pytest -p no:cacheprovider -o junit_family=xunit1 --junitxml=/run/exchange/results.xml {inside}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """The run of the tests inside: how it went, and why each one that was skipped was."""

    exit_code: int
    output: str
    passed: int
    skipped: dict[str, str]


@pytest.fixture(scope="module")
def inside(unified_host, pytestconfig: pytest.Config) -> Inside:
    root, python = shlex.quote(str(pytestconfig.rootpath)), shlex.quote(sys.executable)
    done = unified_host.run(COMMAND.format(root=root, python=python, inside=" ".join(INSIDE)))
    results = done.exchange / "results.xml"
    cases = ElementTree.parse(results).findall(".//testcase") if results.exists() else []
    skipped = {case.attrib["name"]: reason.attrib["message"] for case in cases for reason in case.findall("skipped")}
    passed = sum(len(case) == 0 for case in cases)
    return Inside(exit_code=done.exit_code, output=done.output, passed=passed, skipped=skipped)


def test_the_guest_has_every_controller_in_one_v2_hierarchy(inside: Inside) -> None:
    controllers, mounts, *_ = inside.output.splitlines()
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= set(controllers.split())
    assert mounts == "1"


def test_our_own_tests_pass_on_cgroup_v2_alone(inside: Inside) -> None:
    if inside.exit_code:
        pytest.fail(f"pytest inside ended with {inside.exit_code}:\n{inside.output}", pytrace=False)
    assert inside.passed >= AT_LEAST


def test_nothing_is_skipped_inside_without_a_reason_known_here(inside: Inside) -> None:
    assert inside.skipped == EXPECTED_SKIPS
