"""Our own contract tests once more, inside: guests under real KVM, and the engine and crun on cgroup v2 alone.

A guest takes half a minute to boot there, so of the arm ``vm-kvm`` there are as many as tell that it is one; everything
else that is about it is ``lab testbed run -- python -m pytest tests/contract -k vm-kvm``.
"""

from __future__ import annotations

import pytest
from testbed.conftest import Lab

from lab.testbed import bed

pytestmark = [pytest.mark.root, pytest.mark.needs("testbed"), pytest.mark.timeout(1500)]

RULES = "tests/contract/test_contract_every_backend.py"
PYTEST = ("python", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--timeout", "600")
GUEST_RULES = (
    "marks_are_on_the_hosts_monotonic_clock_and_in_order",
    "exec_passes_input_environment_directory_output_and_exit_code",
    "cgroups_lie_below_the_parent_that_the_harness_names",
    "stop_and_destroy_may_be_called_twice_and_leave_nothing",
)


def inside(lab: Lab, *arguments: str, required: str) -> None:
    """Run tests inside, where the arm that they are about must not be missing."""
    done = lab("run", "-e", f"LAB_REQUIRE={required}", "--", *PYTEST, *arguments)
    if done.exit_code:
        pytest.fail(f"pytest inside ended with {done.exit_code}:\n{done.text}\n{done.error_text}", pytrace=False)
    assert " passed" in done.text.splitlines()[-1]


@pytest.mark.parametrize("arm", ["container", "crun"])
def test_every_rule_holds_on_cgroup_v2_alone(lab: Lab, testbed: bed.Testbed, arm: str) -> None:
    inside(lab, RULES, "-k", f"[{arm} and not in-vm", required=arm)


def test_guests_run_under_real_kvm(lab: Lab, testbed: bed.Testbed) -> None:
    inside(lab, *(f"{RULES}::test_{rule}[vm-kvm]" for rule in GUEST_RULES), required="kvm-device,kvm-linux,vm-kvm")
