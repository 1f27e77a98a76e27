"""What a run says about its machine and about the programs that it measures."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from lab.bench import host, programs
from lab.bench.workloads.catalogue import WORKLOADS
from lab.bench.workloads.protocol import defaults
from lab.linux import kernel_config, sysfs
from lab.report import provenance

CONFIGURATION = """\
# Linux/x86 6.18.5 Kernel Configuration
CONFIG_HZ_250=y
CONFIG_HZ=250
# CONFIG_KSM is not set
CONFIG_DEFAULT_HOSTNAME="(none)"
CONFIG_PREEMPT_DYNAMIC=y
"""


def test_a_kernels_configuration_is_the_options_that_it_sets() -> None:
    assert kernel_config.parse(CONFIGURATION) == {
        "HZ_250": "y",
        "HZ": "250",
        "DEFAULT_HOSTNAME": "(none)",
        "PREEMPT_DYNAMIC": "y",
    }


def test_only_the_options_that_bear_on_numbers_are_recorded_and_none_is_told_where_there_are_none() -> None:
    assert host._configuration(kernel_config.parse(CONFIGURATION)) == "HZ=250 PREEMPT_DYNAMIC=y"
    assert host._configuration(None) == "not available"


def test_a_machine_is_told_as_far_as_a_report_expects_it(tmp_path: Path) -> None:
    found = host.dimensions({"": "/", "runs_": str(tmp_path)})
    elsewhere = {"payload_digest"}  # of a run, not of a machine
    assert {name for name in provenance.EXPECTED.values() if name not in found} == elsewhere
    assert "systemd-detect-virt" in found["virtualised_by"]
    assert {"runs_file_system", "runs_mount_options"} <= set(found)


def test_every_vulnerability_is_told_with_its_state() -> None:
    told = host.dimensions({})["mitigations"]
    for name, state in sysfs.vulnerabilities().items():
        assert f"{name}: {state}" in told


@pytest.mark.parametrize(
    ("document", "vendor"),
    [
        ([{"field": "Hypervisor vendor:", "data": "KVM"}], "KVM"),
        (
            [
                {
                    "field": "Virtualization features:",
                    "data": None,
                    "children": [{"field": "Hypervisor vendor:", "data": "Xen"}],
                }
            ],
            "Xen",
        ),
        ([{"field": "Architecture:", "data": "x86_64"}], "none"),
    ],
)
def test_the_hypervisors_name_is_found_in_flat_and_nested_lists(document: list[object], vendor: str) -> None:
    assert host._cpuid_vendor(json.dumps({"lscpu": document})) == vendor


def test_load_is_read_over_all_three_times() -> None:
    assert {"load_1m", "load_5m", "load_15m"} <= set(host.readings())


def _layer(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> str:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    for name, target in (links or {}).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).symlink_to(target)
    return str(path)


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_program_is_that_of_the_topmost_layer_and_links_stay_inside_the_image(tmp_path: Path) -> None:
    lower = _layer(tmp_path / "lower", {"usr/bin/tool": b"old", "usr/bin/other": b"other"}, {"bin": "usr/bin"})
    upper = _layer(tmp_path / "upper", {"usr/bin/tool": b"new"}, {"usr/bin/linked": "/bin/../bin/other"})

    assert programs.digest((upper, lower), "/bin/tool") == _sha256(b"new")
    assert programs.digest((upper, lower), "/bin/linked") == _sha256(b"other")


def test_a_program_that_is_not_there_has_no_digest(tmp_path: Path) -> None:
    layer = _layer(tmp_path / "layer", {"bin/tool": b"x"}, {"bin/loop": "loop"})

    assert programs.digest((layer,), "/bin/none") is None
    assert programs.digest((layer,), "/bin/loop") is None
    assert programs.digest((layer,), "/bin") is None


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_workload_names_the_programs_that_it_measures(name: str) -> None:
    named = WORKLOADS[name].needs(defaults(WORKLOADS[name]), 1).programs

    assert named
    assert all(os.path.isabs(path) for path in named)
