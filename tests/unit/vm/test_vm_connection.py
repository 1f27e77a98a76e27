"""What is decided and written before libvirt is asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.linux import kvm
from lab.paths import Paths
from lab.target.backends.domain_home import make_home, repair
from lab.vm import capabilities, connection
from lab.vm.domain_spec import Accelerator


def test_two_processes_take_different_slots_and_share_the_cache(tmp_path: Path) -> None:
    first = connection._take_slot(str(tmp_path))
    second = connection._take_slot(str(tmp_path))  # a lock of this process counts as anyone's
    assert [os.path.basename(slot) for slot in (first, second)] == ["slot-0", "slot-1"]
    for slot in (first, second):
        connection._prepare(slot, str(tmp_path / "cache"))
        assert os.readlink(os.path.join(slot, "cache")) == str(tmp_path / "cache")
        assert "stdio_handler" in Path(slot, "etc", "qemu.conf").read_text()


def test_the_emulator_is_renamed_when_qemu_changes(tmp_path: Path) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text("one")
    before = connection._ensure_emulator(str(tmp_path / "e"), str(qemu))
    assert before == connection._ensure_emulator(str(tmp_path / "e"), str(qemu))
    qemu.write_text("another")
    assert before != connection._ensure_emulator(str(tmp_path / "e"), str(qemu))
    assert os.access(before, os.X_OK)


@pytest.mark.parametrize(
    ("exits", "works"),
    [
        ((kvm.VcpuExit(reason=2, port=0x3F8, value=0x52), kvm.VcpuExit(reason=5)), True),
        ((kvm.VcpuExit(reason=2, port=0x3F8, value=0x53), kvm.VcpuExit(reason=5)), False),
        ((kvm.VcpuExit(reason=17), kvm.VcpuExit(reason=17)), False),
    ],
)
def test_the_tiny_guest_is_judged_by_what_it_wrote(exits: tuple[kvm.VcpuExit, ...], works: bool) -> None:
    answer = capabilities._judge_tiny(exits)
    assert answer.works == works
    assert bool(answer.reason) != works


def test_a_boot_that_fails_becomes_an_answer_with_its_reason() -> None:
    def fail() -> None:
        raise TimeoutError("the guest did not reach userspace within 20 s")

    answer = capabilities._judge_boot(fail, Accelerator.KVM)
    assert not answer.works
    assert "with kvm (flavour" in answer.reason
    assert "the guest did not reach userspace" in answer.reason
    assert "vm-tcg" in answer.hint


def test_an_answer_is_not_used_after_what_it_depends_on_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    path.write_text('{"key": {"boot_id": "1"}, "answer": {"works": true, "reason": "", "hint": ""}}')
    assert capabilities._read_answer(str(path), {"boot_id": "1"}) == capabilities.Answer(works=True)
    assert capabilities._read_answer(str(path), {"boot_id": "2"}) is None
    path.write_text('{"key"')
    assert capabilities._read_answer(str(path), {"boot_id": "1"}) is None


def test_a_guests_home_is_left_alone_while_its_owner_lives(tmp_path: Path) -> None:
    paths = Paths.under(str(tmp_path))
    home = make_home(paths, "lab-x", cgroup="lab-no-such/x")
    assert repair(paths) == ()
    with pytest.raises(FileExistsError):
        make_home(paths, "lab-x", cgroup="lab-no-such/x")
    assert os.listdir(os.path.dirname(home.directory)) == ["lab-x"]
    home.remove()
    assert repair(paths) == ()


def test_a_home_without_an_owner_is_removed_with_the_guests_disks(tmp_path: Path) -> None:
    paths = Paths.under(str(tmp_path))
    home = make_home(paths, "lab-x", cgroup="lab-no-such/x")
    os.makedirs(os.path.join(paths.guests, "lab-x"))
    os.close(home.descriptor)  # as the kernel does when a process is killed
    assert repair(paths) == ("lab-x",)
    assert not os.path.exists(home.directory)
    assert not os.path.exists(os.path.join(paths.guests, "lab-x"))
