"""The device program of cgroup v2, asked by the kernel itself: on the v2 mount of any host, whatever v1 has."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from lab.container import defaults, device_program
from lab.container.spec.runtime import DeviceRule
from lab.linux import command
from lab.linux.cgroup import layout as cgroup

pytestmark = [pytest.mark.root]

DEADLINE_NS = 30_000_000_000
NOTHING = DeviceRule(allow=False)
NULL, ZERO = "1:3", "1:5"

ASK = """
import os, stat, sys
directory, place, *requests = sys.argv[1:]
for number, request in enumerate(requests):
    access, major_minor = request.split("@")
    os.mknod(f"{place}/{number}", 0o600 | stat.S_IFCHR, os.makedev(*map(int, major_minor.split(":"))))
with open(f"{directory}/cgroup.procs", "w") as file:
    file.write("0")
for number, request in enumerate(requests):
    access, major_minor = request.split("@")
    try:
        if access == "m":
            os.mknod(f"{place}/made", 0o600 | stat.S_IFCHR, os.makedev(*map(int, major_minor.split(":"))))
            os.unlink(f"{place}/made")
        else:
            os.open(f"{place}/{number}", {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}[access])
        print("yes", end=" ")
    except PermissionError:
        print("no", end=" ")
"""


@pytest.fixture
def directory() -> Iterator[str]:
    """Return a fresh cgroup in the v2 hierarchy."""
    layout = cgroup.detect()
    unified = layout.hierarchy("")
    if unified is None:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    name = f"lab-test-devices-{os.getpid()}"
    cgroup.create(layout, name, ())
    yield unified.directory(name)
    cgroup.remove(layout, name, deadline_ns=time.monotonic_ns() + DEADLINE_NS)


@pytest.mark.parametrize(
    ("rules", "answers"),
    [
        (defaults.DEVICE_RULES, {f"rw@{NULL}": "yes", f"m@{NULL}": "yes", "r@10:229": "no", "m@10:229": "yes"}),
        ((NOTHING,), {f"r@{NULL}": "no", f"w@{NULL}": "no", f"m@{NULL}": "no"}),
        (
            (NOTHING, DeviceRule(allow=True, type="c", major=1, access="r")),
            {f"r@{NULL}": "yes", f"w@{NULL}": "no", f"rw@{NULL}": "no", f"m@{NULL}": "no", f"r@{ZERO}": "yes"},
        ),
        (
            (DeviceRule(allow=True), DeviceRule(allow=False, type="c", major=1, minor=3, access="w")),
            {f"r@{NULL}": "yes", f"w@{NULL}": "no", f"rw@{NULL}": "no", f"m@{NULL}": "yes", f"rw@{ZERO}": "yes"},
        ),
        (
            (NOTHING, *(DeviceRule(allow=True, type="c", minor=3, access=access) for access in "rw")),
            {f"rw@{NULL}": "yes", f"r@{ZERO}": "no"},
        ),
    ],
)
def test_the_kernel_decides_by_the_rules(
    directory: str, tmp_path: object, rules: tuple[DeviceRule, ...], answers: dict[str, str]
) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        device_program.attach(device_program.compile_rules(rules), opened, path=directory)
    finally:
        os.close(opened)
    asked = command.run(("python3", "-I", "-c", ASK, directory, str(tmp_path), *answers))
    assert dict(zip(answers, asked.text.split(), strict=True)) == answers, asked.error_text
