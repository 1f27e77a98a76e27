"""Guests that are made up otherwise, clones of a template, guests without a kernel, and a kernel that crashes."""

from __future__ import annotations

import http.client
import time
from pathlib import Path

import pytest
from guest.vm.conftest import MakeTarget

from lab.errors import TargetError
from lab.paths import Paths
from lab.target.backends.engine import EngineTarget
from lab.target.backends.process import ProcessTarget
from lab.target.protocol import Crashable
from lab.target.spec import Command, Limits, MarkName, NetworkMode, OptionValue, Volume
from lab.vm import floor
from lab.vm.domain_spec import Accelerator, MachineType
from lab.vm.platform import prepare

pytestmark = [pytest.mark.root, pytest.mark.needs("vm-tcg")]

SHELL = ("/bin/busybox", "sh", "-c")
LIMITS = Limits(vcpus=1, memory_bytes=192 << 20)
SERVICE = Command(
    argv=(*SHELL, "mkdir -p /www; echo hello >/www/index.html; exec /bin/busybox httpd -f -p 8080 -h /www")
)


@pytest.mark.needs("virtiofsd")
def test_a_guest_with_shared_directories_has_the_hosts_own_files(make: MakeTarget, tmp_path: Path) -> None:
    (tmp_path / "from-host").write_text("host\n")
    options: dict[str, OptionValue] = {"root": "virtiofs", "volumes": "virtiofs"}
    volumes = (Volume(source=str(tmp_path), path="/bind"),)
    target = make(options=options, volumes=volumes, limits=LIMITS).target
    target.start()
    script = "cat /bind/from-host; echo guest >/bind/from-guest; echo own >/own; grep -c virtiofs /proc/mounts"
    done = target.exec(Command(argv=(*SHELL, script)))
    assert (done.exit_code, done.stdout) == (0, b"host\n2\n"), done
    assert (tmp_path / "from-guest").read_text() == "guest\n"
    assert len(target.footprint().helper_pids) == 2


@pytest.mark.parametrize(
    ("options", "root"),
    [
        ({"root_fs": "squashfs", "disk_format": "raw", "network": "user"}, "overlay"),
        ({"machine": "pc", "disk_format": "raw", "cache": "none", "io": "io_uring", "network": "bridge"}, "ext4"),
    ],
)
def test_a_guest_of_other_parts_serves_and_can_be_written_to(
    make: MakeTarget, options: dict[str, OptionValue], root: str
) -> None:
    target = make(options=options, command=SERVICE, network=NetworkMode.BRIDGE, service_port=8080, limits=LIMITS).target
    target.start()
    endpoint = target.endpoint()
    assert _eventually_serves(endpoint.host, endpoint.port)
    script = "echo x >/written && cat /written && awk '$2 == \"/\" {print $3}' /proc/mounts | tail -1"
    assert target.exec(Command(argv=(*SHELL, script))).stdout.split() == [b"x", root.encode()]


def _eventually_serves(host: str, port: int) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read() == b"hello\n"
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    return False


def test_clones_go_on_where_their_template_was_left_and_keep_apart(make: MakeTarget) -> None:
    first, second = (make(arm="vm-tcg-clone", limits=LIMITS) for _ in range(2))
    for clone in (first, second):
        clone.target.start()
        assert clone.marks[MarkName.USERSPACE] == clone.marks[MarkName.ENVIRONMENT]
        assert MarkName.KERNEL not in clone.marks
    assert first.target.exec(Command(argv=(*SHELL, "echo mine >/mine"))).exit_code == 0
    assert second.target.exec(Command(argv=(*SHELL, "cat /mine"))).exit_code != 0


def test_the_crash_of_one_guests_kernel_leaves_the_other_guest(make: MakeTarget) -> None:
    victim, other = (make(arm="vm-tcg-clone", limits=LIMITS).target for _ in range(2))
    for target in (victim, other):
        target.start()
    victim.crash_kernel()
    with pytest.raises(TargetError):
        victim.exec(Command(argv=(*SHELL, "true")))
    assert other.exec(Command(argv=(*SHELL, "echo alive"))).stdout == b"alive\n"


def test_what_runs_on_the_hosts_kernel_cannot_be_asked_to_crash_it() -> None:
    assert not issubclass(EngineTarget, Crashable)
    assert not issubclass(ProcessTarget, Crashable)


@pytest.mark.parametrize("direct", [False, True], ids=["libvirt", "direct"])
def test_a_guest_without_a_kernel_says_its_byte(paths: Paths, direct: bool) -> None:
    found = floor.measure(prepare(paths), Accelerator.TCG, MachineType.MICROVM, direct=direct)
    assert found.manager_ns > 0
    assert 0 < found.vmm_ns < 20_000_000_000
