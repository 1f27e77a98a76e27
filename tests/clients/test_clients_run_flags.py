"""What `run`'s flags make of a container: the same as docker's, and refused in the same words.

What differs on purpose: a device or a kernel parameter that is not there is the engine's failure (125), where docker
gives 127 because its message says "no such file"; what a runtime below docker refuses is told without the names of that
runtime's layers; `--init` is a program of ours, so that its child's number and its words differ; the user that is not
there is named with a small letter throughout.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab.linux import command
from lab.paths import Paths
from lab.target.backends.dockerd import PrivateDaemon

pytestmark = [pytest.mark.root, pytest.mark.needs("docker"), pytest.mark.needs("overlay")]

SAME = r"""
busybox id
-u 1000 busybox sh -c 'id; echo $HOME; pwd'
-u nobody busybox sh -c 'id; echo $HOME'
-u 0:50 busybox id
-u nosuch busybox id
-u root:nosuch busybox id
-u 99999999999 busybox id
--group-add 77 --group-add root busybox id
-u 1000 busybox sh -c 'echo x > /dev/stdout'
-w /a/b busybox sh -c 'pwd; ls -ld /a/b | cut -c1-30'
-w relative busybox pwd
--hostname web busybox sh -c 'hostname; cat /etc/hostname; echo $HOSTNAME'
--hostname web --domainname x.org busybox sh -c 'hostname; cat /proc/sys/kernel/domainname'
--ulimit nofile=99:100 busybox sh -c 'ulimit -Sn; ulimit -Hn'
--ulimit nofile busybox true
--ulimit foo=1 busybox true
--ulimit nofile=5:3 busybox true
--ulimit nofile=x busybox true
--cap-drop ALL busybox grep Cap /proc/self/status
--cap-drop ALL --cap-add net_admin busybox grep Cap /proc/self/status
--cap-add NOPE busybox true
--cap-drop NOPE busybox true
--cap-add sys_admin -u 5 busybox grep Cap /proc/self/status
busybox grep -E 'Cap|Seccomp:|NoNew' /proc/self/status
--security-opt no-new-privileges busybox grep -E 'NoNew|Seccomp:' /proc/self/status
--security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status
--security-opt nonsense busybox true
--security-opt a=b busybox true
--security-opt no-new-privileges=maybe busybox true
--security-opt seccomp=/nope busybox true
--security-opt apparmor=foo busybox true
--security-opt label=disable busybox true
--security-opt label=user:x busybox true
--security-opt systempaths=unconfined busybox sh -c 'head -c 3 /proc/interrupts | wc -c'
--read-only busybox touch /x
--read-only --tmpfs /t busybox sh -c 'touch /t/x && ls -ld /t | cut -c1-30; mount | grep " /t "'
--tmpfs /t:size=1m,mode=700,uid=5 busybox sh -c 'ls -lnd /t | cut -c1-30; mount | grep " /t "'
--tmpfs /t:exec,suid busybox sh -c 'mount | grep " /t "'
--tmpfs /t:foo=1 busybox true
--tmpfs t busybox true
--tmpfs / busybox true
--shm-size 2m busybox sh -c 'mount | grep shm'
--sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward
--sysctl kernel.msgmax=77 busybox cat /proc/sys/kernel/msgmax
--sysctl kernel.core_pattern=x busybox true
--sysctl foo busybox true
--device /dev/zero:/dev/nought:r busybox sh -c 'head -c 1 /dev/nought | wc -c; ls -l /dev/nought | cut -c1-30'
--device /dev/zero:/dev/x:rwmz busybox true
--device-cgroup-rule 'c 1:5 r' busybox true
--device-cgroup-rule nope busybox true
--oom-score-adj 300 busybox cat /proc/self/oom_score_adj
--oom-score-adj 3000 busybox true
--pid host busybox readlink /proc/self/ns/pid
--uts host busybox hostname
--uts host --hostname x busybox hostname
--uts nope busybox hostname
--pid nope busybox hostname
--ipc nope busybox hostname
--ipc none busybox sh -c 'mount | grep -c shm'
--cgroupns nope busybox hostname
--userns nope busybox hostname
--userns host busybox id -u
--pid container:nope busybox id -u
busybox sh -c 'env | sort | grep -v HOSTNAME'
-e A=1 -e PATH=/bin busybox sh -c 'env | sort | grep -v HOSTNAME'
busybox sh -c 'ls /proc/acpi /sys/firmware; cat /proc/kcore | wc -c; cat /proc/keys | wc -c'
busybox sh -c 'echo x > /proc/sys/kernel/domainname; mount -t tmpfs x /tmp; unshare -U true; chroot / true && echo in'
busybox sh -c 'cat /proc/self/limits | grep -E "open files|processes|core"'
"""

SAME_BUT_WORDS = r"""
--group-add nosuch busybox id
--ulimit nofile=999999999:999999999 busybox true
--tmpfs /bin busybox ls
--network host --sysctl net.ipv4.ip_forward=1 busybox true
--ipc host --sysctl kernel.msgmax=77 busybox true
-v /tmp:/proc/sys busybox true
-v /tmp:/ busybox true
--init busybox nope
--init busybox /etc
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a run left: its exit code, its output, and its error without who says it and what to do next."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return the beginnings of the two command lines, docker's first, with the same image behind both."""
    base = tmp_path_factory.mktemp("flags")
    paths = Paths(root=str(base / "root"), cache=str(base / "cache"), run=str(base / "run"))
    lab = (sys.executable, "-m", "lab", "--root", paths.root)
    assert command.run((*lab, "image", "bootstrap", "busybox")).exit_code == 0
    archive = str(base / "busybox.tar")
    assert command.run((*lab, "save", "busybox", "-o", archive)).exit_code == 0
    daemon = PrivateDaemon(paths)
    daemon.start()
    docker = ("docker", "-H", f"unix://{daemon.socket}")
    try:
        assert command.run((*docker, "load", "-i", archive)).exit_code == 0
        yield docker, lab
    finally:
        daemon.stop()


def _said(beginning: tuple[str, ...], line: str) -> Said:
    network = () if "--network" in line else ("--network", "none")
    done = command.run((*beginning, "run", "--rm", *network, *shlex.split(line)), timeout_s=120)
    return Said(code=done.exit_code, out=done.stdout.decode(), err=_plain(done.stderr.decode()))


def _plain(text: str) -> str:
    text = re.sub(r"^(docker|lab): ", "", text).replace("Error response from daemon: ", "")
    text = re.sub(r"\n+(Run|See|Usage:) .*", "", text, flags=re.DOTALL)
    return re.sub(r"\n\s+try: .*", "", text).strip().rstrip(".")


@pytest.mark.parametrize("line", SAME.strip().splitlines())
def test_a_flag_does_what_dockers_does(arms: tuple[tuple[str, ...], tuple[str, ...]], line: str) -> None:
    docker, lab = arms
    assert _said(lab, line) == _said(docker, line)


@pytest.mark.parametrize("line", SAME_BUT_WORDS.strip().splitlines())
def test_a_flag_does_what_dockers_does_and_says_it_otherwise(
    arms: tuple[tuple[str, ...], tuple[str, ...]], line: str
) -> None:
    docker, lab = arms
    theirs, ours = _said(docker, line), _said(lab, line)
    assert (ours.code, ours.out) == (theirs.code, theirs.out)
    assert ours.err
