"""A plan carried out by the machine and in Python gives the same container, and the same failures."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.container import compiled
from lab.container.defaults import ContainerNetwork
from lab.container.engine import Engine
from lab.container.options import mounts
from lab.container.spawner_client import StartFailed
from lab.container.spec.runtime import Device, Mount, Rlimit
from lab.paths import Paths

if TYPE_CHECKING:
    from conftest import Containers

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

LOOK = r"""
busybox sed 's/[^ ]*lab-test[^ ]*/HOST/g; s/^[0-9]* [0-9]* [0-9]*:[0-9]*//' /proc/self/mountinfo
busybox grep -v -E 'Pid|Tgid|ctxt|Vm|Rss|Threads|Hugetlb|Cpus|Mems|SigQ|Speculation' /proc/self/status
busybox find /dev /data /made -exec busybox stat -c '%n %F %a %u:%g %t:%T' {} +
busybox env | busybox sort; pwd; ulimit -n; umask; hostname; id
busybox cat /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj
busybox ls -l /proc/self/fd | busybox sed 's/.* \([0-9]* ->\)/\1/; s/pipe.*//; s/[0-9]*\/fd/fd/'
busybox ip -o addr | busybox sed 's/@if[0-9]*//; s/tentative//'; busybox ip route
"""


@contextmanager
def _without_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr(compiled, "machine", lambda _: "")
        yield


@pytest.fixture
def by_both(
    containers: Containers, fresh_paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[object, object]]]:
    """Return what runs a container twice: by the machine, and in Python."""
    with _without_compiler(monkeypatch), Engine(fresh_paths) as other:
        in_python = type(containers)(other, *containers.config.layers)
        assert _runs(in_python)  # which settles its way of doing it

        def run(look: Callable[[Containers], object]) -> tuple[object, object]:
            return look(containers), look(in_python)

        yield run
        other.release_network()


def _runs(containers: Containers) -> bool:
    return containers.run("/bin/busybox", "true").code == 0


def _bind(source: str, destination: str, *options: str) -> Mount:
    return Mount(destination=destination, type="bind", source=source, options=("rbind", *options))


def _normal(text: str) -> str:
    return re.sub(r"test-\d+-\d+|[0-9a-f]{12,}|02(:[0-9a-f]{2}){5}|(\d+\.){2}\d+\.\d+|fe80::\S+", "X", text)


def test_the_machine_is_what_is_used_where_there_is_a_compiler(containers: Containers, fresh_paths: Paths) -> None:
    assert _runs(containers)
    assert [name.startswith("machine-") for name in os.listdir(os.path.join(fresh_paths.cache, "compiled"))] == [True]


@pytest.mark.parametrize("network", list(ContainerNetwork))
@pytest.mark.parametrize("user", ["", "1000:1001"])
def test_both_ways_make_the_same_container(
    by_both: Callable[..., tuple[object, object]], tmp_path: Path, network: ContainerNetwork, user: str
) -> None:
    (tmp_path / "file").write_text("x")
    binds = (
        _bind(f"{tmp_path}", "/data/in/here"),
        _bind(f"{tmp_path}/file", "/made/a/file", "ro"),
        mounts.tmpfs("/scratch:size=64k"),
    )
    settings: dict[str, object] = {
        "network": network,
        "user": user,
        "mounts": binds,
        "cwd": "/made/working/directory",
        "rlimits": (Rlimit(type="RLIMIT_NOFILE", soft=100, hard=200),),
        "sysctls": {"net.ipv4.ip_forward": "1"},
        "oom_score_adj": 500,
        "devices": (
            Device(path="/dev/deep/mine", type="c", major=1, minor=3, file_mode=0o640, uid=7, gid=8),
            Device(path="/dev/null", type="c", major=1, minor=3, file_mode=0o600, uid=0, gid=0),
        ),
        "env": ("PATH=/bin", "A=b=c", "EMPTY="),
    }

    def look(containers: Containers) -> str:
        outcome = containers.shell(LOOK, **settings)
        assert outcome.code == 0, outcome
        return _normal(outcome.out + outcome.err)

    by_machine, in_python = by_both(look)
    assert by_machine == in_python


@pytest.mark.parametrize(
    ("changes", "args"),
    [
        ({}, ("no-such-program",)),
        ({}, ("/no/such/program",)),
        ({}, ("/tmp",)),
        ({"env": ("PATH=",)}, ("true",)),
        ({"cwd": "/bin/busybox/x"}, ("/bin/busybox", "true")),
        ({"cwd": "/proc/self/fd/197"}, ("/bin/busybox", "true")),
        ({"sysctls": {"net.ipv4.ip_forward": "nonsense"}}, ("/bin/busybox", "true")),
        ({"sysctls": {"net.no.such": "1"}}, ("/bin/busybox", "true")),
        ({"devices": (Device(path="/dev/null", type="c", major=1, minor=5),)}, ("/bin/busybox", "true")),
        ({"devices": (Device(path="/dev/zero", type="b", major=1, minor=5),)}, ("/bin/busybox", "true")),
        ({"layers": ("/no/such/layer",)}, ("/bin/busybox", "true")),
    ],
    ids=str,
)
def test_both_ways_fail_with_the_same_words(
    by_both: Callable[..., tuple[object, object]], changes: dict[str, object], args: tuple[str, ...]
) -> None:
    def fail(containers: Containers) -> tuple[str, str, int, str]:
        with pytest.raises(StartFailed) as raised:
            containers.run(*args, **changes)
        return str(raised.value), raised.value.step, raised.value.exit_code, raised.value.path

    by_machine, in_python = by_both(fail)
    assert _without_ids(by_machine) == _without_ids(in_python)


PASSWD = """root:x:0:0:root:/root:/bin/sh
0:x:1000:1000:a name that looks like root's number:/:/bin/sh
web:x:33:34::/var/www:/bin/false

# a comment
broken:x:no:1::/x:/y
high:x:4294967296:1::/x:/y
far:x:99999999999999999999999999:1::/x:/y
nogroup:x:35:none:::\r
 spaced :x:36:36::/home/spaced:/bin/sh \r
short:x
three:x:7
::38:38::/:
double:x:39:39::/:
double:x:40:40::/:
\xff:x:41:41::/:
zeros:x:0042:0042::/zeros:"""
GROUP = """root:x:0:
www:x:34:
staff:x:50:web,other
adm:x:4:other,web
twice:x:50:web
odd:x
last:x:web
34:x:77:web
huge:x:4294967296:web
listed:x:60: web ,spaced\r
100:x:101:
zeros:x:007:
"""
USERS = (
    "", "0", "root", "web", "33", "web:staff", "web:77", "1234", "1234:www", ":www", "web:", "web:34", "web:0034",
    "broken", "high", "far", "nogroup", "35", "spaced", "36", "short", "three", "7", "38", "double", "40", "zeros",
    "42", "0042", "nosuch", "web:nosuch", "4294967295", "2147483647", "99999999999999999999999999", "web:100",
    "web:odd", "a:b:c", "\udcff", "web:4294967296", "-1", "+33", " 33",
)  # fmt: skip
ADDED: tuple[tuple[str, ...], ...] = ((), ("staff", "9", "9"), ("nosuch",), ("zeros", "7", "34"), ("",))


@pytest.mark.parametrize("passwd", [PASSWD, "", "\0" + PASSWD, PASSWD.replace("web", "we\0b")], ids=len)
def test_both_ways_find_the_same_user(
    by_both: Callable[..., tuple[object, object]], tmp_path: Path, passwd: str
) -> None:
    (tmp_path / "passwd").write_bytes(passwd.encode("latin-1"))
    (tmp_path / "group").write_text(GROUP)
    binds = [_bind(f"{tmp_path / name}", f"/etc/{name}") for name in ("passwd", "group")]

    def look(containers: Containers) -> list[str]:
        return [_who(containers, binds, user, added) for user, added in cases]

    cases = [(user, ()) for user in USERS] + [("web", added) for added in ADDED]
    by_machine, in_python = by_both(look)
    assert by_machine == in_python
    assert len(set(by_machine)) > (20 if passwd is PASSWD else 5)  # type: ignore[call-overload]  # a list


def test_both_ways_refuse_more_groups_than_a_buffer_holds(by_both: Callable[..., tuple[object, object]]) -> None:
    def look(containers: Containers) -> list[str]:
        return [_who(containers, [], "5", tuple(map(str, range(count)))) for count in (1023, 1024, 1025)]

    by_machine, in_python = by_both(look)
    assert by_machine == in_python
    assert "user 5 is in more than 1024 groups" in by_machine[2]  # type: ignore[index]  # a list


def _who(containers: Containers, binds: list[Mount], user: str, added: tuple[str, ...]) -> str:
    """Return what a container's user is, or what its start says."""
    shown = (
        "busybox grep -E '^(Uid|Gid|Groups|Cap)' /proc/self/status; echo $HOME; busybox stat -L -c %u /proc/self/fd/1"
    )
    try:
        outcome = containers.shell(shown, user=user, additional_groups=added, mounts=tuple(binds))
    except StartFailed as error:
        return _without_ids(error)
    assert outcome.code == 0, outcome
    return str(outcome.out)


def _without_ids(failure: object) -> str:
    return re.sub(r"test-\d+-\d+", "ID", str(failure))


def test_a_root_that_is_a_trap_fails_both_ways(by_both: Callable[..., tuple[object, object]], tmp_path: Path) -> None:
    (tmp_path / "proc").symlink_to("/tmp")

    def fail(containers: Containers) -> str:
        with pytest.raises(StartFailed, match="must be mounted on ordinary directory") as raised:
            containers.run("/bin/busybox", "true", layers=(str(tmp_path), *containers.config.layers))
        return str(raised.value)

    by_machine, in_python = by_both(fail)
    assert by_machine == in_python


def test_destinations_behind_links_of_the_image_are_made(
    by_both: Callable[..., tuple[object, object]], tmp_path: Path
) -> None:
    (tmp_path / "layer/var").mkdir(parents=True)
    (tmp_path / "layer/var/run").symlink_to("../run/deep")  # dangles
    (tmp_path / "layer/loop").symlink_to("loop")
    (tmp_path / "source").write_text("seen")
    bind = _bind(f"{tmp_path}/source", "/var/run/docker.sock")

    def look(containers: Containers) -> str:
        layers = (str(tmp_path / "layer"), *containers.config.layers)
        return containers.shell("cat /run/deep/docker.sock; ls /run/deep", layers=layers, mounts=(bind,)).out

    by_machine, in_python = by_both(look)
    assert by_machine == in_python == "seendocker.sock\n"


def test_an_environment_as_long_as_the_kernel_takes_is_taken_and_a_longer_one_refused(
    by_both: Callable[..., tuple[object, object]],
) -> None:
    def look(containers: Containers) -> tuple[str, int]:
        environment = ("PATH=/bin", *(f"V{number}={'x' * 100_000}" for number in range(10)))
        outcome = containers.run("/bin/sh", "-c", 'echo "${#V9}"', env=environment)
        with pytest.raises(StartFailed) as raised:
            containers.run("/bin/busybox", "true", env=("PATH=/bin", f"V={'x' * 200_000}"))
        return outcome.out, raised.value.errno

    by_machine, in_python = by_both(look)
    assert by_machine == in_python == ("100000\n", 7)
