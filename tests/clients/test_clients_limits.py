"""Limits of containers, set at the start and changed later, by docker and by the lab: the kernel has the same.

What differs on purpose stands in the table with its reason. How a script is written is said in ``transcript.py``. Of
error messages only what both say is compared: docker's own client words them differently from version to version.
"""

from __future__ import annotations

import pytest
from clients.transcript import Case, Difference, Engine, check

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]

_LIMITS = """
show() {
    cat <<'END'
cd /sys/fs/cgroup
for file in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes \\
    memory/memory.swappiness memory.max memory.swap.max memory.low cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us \\
    cpu/cpu.shares cpu.max cpu.weight pids/pids.max pids.max cpuset/cpuset.cpus cpuset/cpuset.mems cpuset.cpus \\
    blkio/blkio.throttle.read_bps_device blkio/blkio.throttle.write_bps_device io.max \\
    blkio/blkio.throttle.read_iops_device blkio/blkio.throttle.write_iops_device
do test -e $file && echo "$file $(cat $file)"; done
grep oom_kill_disable memory/memory.oom_control 2>/dev/null || true
END
}
disk=/dev/$(lsblk -dnpo NAME 2>/dev/null | sed -n 's,^/dev/\\([a-z]*\\)$,\\1,p' | head -1)
"""

LIMITS = {
    "limits": Case(
        script=_LIMITS
        + """
e run --rm -m 32m --cpus 0.5 --cpu-shares 512 --pids-limit 99 --cpuset-cpus 0 busybox sh -c "$(show)"
e run --rm -m 32m --memory-swap 48m --memory-reservation 16m --memory-swappiness 0 --cpu-period 50000 \\
    --cpu-quota 20000 --cpuset-cpus 0 busybox sh -c "$(show)"
e run --rm -m 32m --memory-swap -1 --pids-limit -1 --oom-kill-disable --cpuset-mems 0 --cpuset-cpus 0 \\
    busybox sh -c "$(show)"
e run --rm --device-read-bps $disk:1mb --device-write-bps $disk:2mb --device-read-iops $disk:30 \\
    --device-write-iops $disk:40 --blkio-weight 300 --cpuset-cpus 0 busybox sh -c "$(show)"
"""
    ),
    "wrong-limits": Case(
        script="""
e run --memory-swap 48m busybox true
e run -m 32m --memory-swap 16m busybox true
e run -m 32m --memory-reservation 64m busybox true
e run --memory-swappiness 101 busybox true
e run --device-read-bps 1 busybox true
echo disk; e run --device-read-bps /dev/nosuch:1 busybox true
e run --cpus 99 busybox true
e run --cpus x busybox true
e run --cpus 1 --cpu-quota 5000 busybox true
e run --cpuset-cpus 77 busybox true
e run --cpuset-mems 77 busybox true
e run --cpuset-cpus x busybox true
e run --pids-limit x busybox true
""",
        says=(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
            "Minimum memoryswap limit should be larger than memory limit, see usage",
            "Minimum memory limit can not be less than memory reservation limit, see usage",
            "101. Valid memory swappiness range is 0-100",
            "/dev/nosuch: no such file or directory",
            "Range of CPUs is from 0.01 to",
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            "Requested CPUs are not available - requested 77, available: 0-",
            "Requested memory nodes are not available - requested 77, available: 0",
            "Invalid value x for cpuset cpus",
        ),
        differs=(
            Difference(
                docker="disk\n[exit 127]\n",
                lab="disk\n[exit 125]\n",
                reason="docker takes a disk that is not there for a program that is not there",
            ),
        ),
    ),
    "update": Case(
        script=_LIMITS
        + """
q run -d --name cc -m 32m --cpuset-cpus 0 busybox sleep 1000
e update -m 64m --memory-swap 128m cc
e update --memory-reservation 16m --cpu-shares 77 --pids-limit 55 --cpus 0.3 cc
e exec cc sh -c "$(show)"
e update -m 256m cc
e update --cpu-quota 5000 cc
e update --cpus 99 cc
e update -m 1m cc
e update nosuch -m 64m
e update cc
e update --restart on-failure:3 cc
e inspect -f '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}' cc
e update --restart nosuch cc
q stop -t 0 cc
e update -m 40m --memory-swap 40m --pids-limit -1 cc
q start cc
e exec cc sh -c "$(show)"
""",
        says=("Memory limit should be smaller than already set memoryswap limit", "No such container: nosuch"),
    ),
}


@pytest.mark.parametrize("name", list(LIMITS))
def test_limits_are_the_same(name: str, engines: tuple[Engine, Engine]) -> None:
    check(LIMITS[name], engines)
