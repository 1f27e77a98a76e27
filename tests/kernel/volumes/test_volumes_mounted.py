"""Volumes that are mounted while they are used: those with a size, and docker's types; full disks, kills, events."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lab.container.volumes import mounting
from lab.container.volumes.store import VolumeStore
from lab.linux import loop

from ..containers.conftest import Lab

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]


def _data(lab: Lab, name: str) -> str:
    return VolumeStore(lab.paths).data(name)


def _image(lab: Lab, name: str) -> str:
    return os.path.join(VolumeStore(lab.paths).path(name), "volume.ext4")


def _await_no_device(image: str) -> None:
    """Wait for the kernel to let go of the device of what has been unmounted, which it does behind it."""
    deadline_ns = time.monotonic_ns() + 10_000_000_000
    while loop.devices(image):
        assert time.monotonic_ns() < deadline_ns, loop.devices(image)
        time.sleep(0.02)


@pytest.fixture
def sized(lab: Lab) -> str:
    """Return the name of a volume of 8 MiB; the host need not have loop devices for anything else."""
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("no loop devices")
    return lab.ok("volume", "create", "--size", "8m", "small")


def test_a_volume_with_a_size_is_full_at_that_size_and_nowhere_else(lab: Lab, sized: str) -> None:
    script = "dd if=/dev/zero of=/d/full bs=1M count=16; dd if=/dev/zero of=/elsewhere bs=1M count=16 && ls -A /d"
    done = lab("run", "--rm", "-v", f"{sized}:/d", "busybox", "sh", "-c", script)
    assert (done.out, "No space left on device" in done.err) == ("full\n", True), done
    assert not os.path.ismount(_data(lab, sized))
    _await_no_device(_image(lab, sized))
    assert os.listdir(_data(lab, sized)) == []
    assert 4 << 20 < VolumeStore(lab.paths).size_bytes(sized) <= 8 << 20


def test_it_takes_what_the_image_has_and_keeps_what_is_written_in_all_who_use_it(lab: Lab, sized: str) -> None:
    lab.ok("run", "-d", "--name", "one", "-v", f"{sized}:/etc/network", "busybox", "sleep", "1000")
    lab.ok("run", "-d", "--name", "two", "-v", f"{sized}:/d", "busybox", "sleep", "1000")
    lab.ok("exec", "one", "touch", "/etc/network/own")
    assert lab.ok("exec", "two", "ls", "-A", "/d").split()[-1] == "own"
    assert len(loop.devices(_image(lab, sized))) == 1
    lab.ok("rm", "-f", "one")
    assert os.path.ismount(_data(lab, sized))
    lab.ok("stop", "-t", "0", "two")
    assert lab.ok("cp", "two:/d/own", "-") != ""
    lab.ok("start", "two")
    lab.ok("exec", "two", "ls", "/d/own")
    lab.ok("rm", "-f", "two")
    assert not os.path.ismount(_data(lab, sized))


def test_a_mount_that_a_killed_command_has_left_is_found_and_mended(lab: Lab, sized: str) -> None:
    store = VolumeStore(lab.paths)
    mounting.mount_at(store.path(sized), store.get(sized))  # and dies
    assert f"mount of volume {sized}: no container that runs has it; unmounted" in lab.ok("system", "check")
    _await_no_device(_image(lab, sized))
    mounting.mount_at(store.path(sized), store.get(sized))
    lab.ok("run", "--rm", "-v", f"{sized}:/d", "busybox", "touch", "/d/file")
    assert not os.path.ismount(_data(lab, sized))
    mounting.mount_at(store.path(sized), store.get(sized))
    lab.ok("volume", "rm", sized)
    assert not os.path.exists(store.path(sized))


def test_memory_is_shared_while_it_is_used_and_gone_afterwards(lab: Lab) -> None:
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m,mode=700,nosuid")
    lab.ok("volume", "create", *options, "mem")
    lab.ok("run", "-d", "--name", "one", "-v", "mem:/d", "busybox", "sleep", "1000")
    full = lab("exec", "one", "sh", "-c", "dd if=/dev/zero of=/d/full bs=1M count=2; stat -c %a /d")
    assert (full.out, "No space left on device" in full.err) == ("700\n", True)
    assert lab.ok("run", "--rm", "-v", "mem:/d", "busybox", "ls", "/d") == "full"
    lab.ok("rm", "-f", "one")
    assert lab.ok("run", "--rm", "-v", "mem:/d", "busybox", "ls", "-A", "/d") == ""


def test_what_cannot_be_mounted_is_said_in_dockers_words(lab: Lab) -> None:
    lab.ok("volume", "create", "--opt", "type=ext4", "--opt", "device=/dev/nope", "--opt", "o=ro", "bad")
    done = lab("run", "--rm", "--mount", "src=bad,dst=/d,volume-nocopy", "busybox", "true")
    words = f"failed to mount local volume: mount /dev/nope:{_data(lab, 'bad')}, flags: 0x1: no such file or directory"
    assert (done.code, words in done.err) == (125, True), done
    assert lab.ok("ps", "-aq") == ""


@pytest.mark.parametrize("kind", ["nfs", "cifs"])
def test_a_network_file_system_that_the_kernel_does_not_have_is_told_without_the_password(lab: Lab, kind: str) -> None:
    if f"\t{kind}\n" in Path("/proc/filesystems").read_text():
        pytest.skip(f"the kernel of this host has {kind}")
    options = (f"type={kind}", "device=:/srv", "o=addr=127.0.0.1,username=me,password=geheim")
    lab.ok("volume", "create", *(word for each in options for word in ("--opt", each)), "far")
    done = lab("run", "--rm", "-v", "far:/d", "busybox", "true")
    assert (done.code, "geheim" in done.err, "password=********" in done.err) == (125, False, True), done
    assert f"modprobe {kind}" in done.err
    assert lab.ok("ps", "-aq") == ""


def test_a_copy_into_it_that_was_killed_is_begun_anew(lab: Lab, sized: str) -> None:
    store = VolumeStore(lab.paths)
    with mounting.in_use(lab.paths, (sized,)):
        Path(_data(lab, sized), "half").touch()
    Path(store.path(sized), ".within").touch()  # as who is killed amid the copy leaves it
    lab.ok("run", "--rm", "-v", f"{sized}:/bin:ro", "busybox", "test", "!", "-e", "/bin/half")


def test_events_tell_of_who_uses_a_volume(lab: Lab) -> None:
    lab.ok("run", "--rm", "--name", "one", "-v", "told:/d:ro", "busybox", "true")
    lab.ok("volume", "rm", "told")
    text = lab.ok("events", "--since", "1h", "--until", "0s", "--filter", "type=volume", "--format", "{{json .}}")
    told = [each for each in map(json.loads, text.splitlines()) if each["Actor"]["ID"] == "told"]
    assert [each["Action"] for each in told] == ["create", "mount", "unmount", "destroy"]
    attributes = told[1]["Actor"]["Attributes"]
    assert (attributes["destination"], attributes["read/write"], attributes["driver"]) == ("/d", "false", "local")


def test_a_killed_supervisor_leaves_nothing_that_the_next_command_does_not_mend(lab: Lab, sized: str) -> None:
    lab.ok("run", "-d", "--name", "one", "-v", f"{sized}:/d", "busybox", "sleep", "1000")
    pid = int(lab.ok("inspect", "-f", "{{.State.Pid}}", "one"))
    os.kill(pid, signal.SIGKILL)
    lab.ok("wait", "one")
    lab.ok("system", "check")
    assert not os.path.ismount(_data(lab, sized))
    subprocess.run(["e2fsck", "-fn", _image(lab, sized)], capture_output=True, check=True)
