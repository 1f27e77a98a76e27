"""What docker's flags ask for is what a container has, on the real kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.container import etc_files
from lab.container.options import devices, limits, mounts, security
from lab.container.spawner_client import StartFailed
from lab.container.spec.runtime import Mount, Resources, Rlimit
from lab.linux import capabilities, mount

if TYPE_CHECKING:
    from conftest import Containers

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

PASSWD = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n"
GROUP = "root:x:0:\nwww:x:34:\nstaff:x:50:web\n"


@pytest.fixture
def layers(containers: Containers, tmp_path: Path) -> tuple[str, ...]:
    """Return the busybox layer below one with users."""
    top = tmp_path / "users"
    (top / "etc").mkdir(parents=True)
    (top / "etc/passwd").write_text(PASSWD)
    (top / "etc/group").write_text(GROUP)
    (top / "kept").mkdir()
    (top / "kept").chmod(0o750)
    return (str(top), *containers.config.layers)


@pytest.mark.parametrize(
    ("user", "groups", "ids", "home"),
    [
        ("0", (), "uid=0(root) gid=0(root) groups=0(root)", "/root"),
        ("web", (), "uid=33(web) gid=34(www) groups=34(www),50(staff)", "/var/www"),
        ("33:staff", (), "uid=33(web) gid=50(staff) groups=50(staff)", "/var/www"),
        ("1234", (), "uid=1234 gid=0(root) groups=0(root)", "/"),
        ("web", ("77",), "uid=33(web) gid=34(www) groups=34(www),50(staff),77", "/var/www"),
    ],
)
def test_a_user_is_found_in_the_images_own_files(
    containers: Containers, layers: tuple[str, ...], user: str, groups: tuple[str, ...], ids: str, home: str
) -> None:
    outcome = containers.shell("id; echo $HOME", layers=layers, user=user, additional_groups=groups)
    assert outcome.out.splitlines() == [ids, home]


def test_a_user_that_the_image_lacks_starts_nothing(containers: Containers, layers: tuple[str, ...]) -> None:
    with pytest.raises(StartFailed, match="unable to find user nosuch: no matching entries in passwd file"):
        containers.shell("true", layers=layers, user="nosuch")


def test_a_link_to_the_hosts_users_finds_none_of_them(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("../../../../etc/passwd")
    with pytest.raises(StartFailed, match="unable to find user daemon"):
        containers.shell("true", layers=(str(tmp_path), *containers.config.layers), user="daemon")


def test_a_users_file_that_is_a_pipe_does_not_hang_the_start(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    layers = (str(tmp_path), *containers.config.layers)
    outcome = containers.run("/bin/cat", "/proc/self/status", layers=layers, user="7")
    assert "Uid:\t7\t7\t7\t7" in outcome.out


def test_a_user_without_capabilities_may_still_open_its_own_output(containers: Containers) -> None:
    outcome = containers.shell("echo there > /dev/stdout", user="7")
    assert outcome.out == "there\n"


def test_another_user_has_no_capabilities_but_keeps_the_bounding_set(containers: Containers) -> None:
    lines = containers.run("/bin/cat", "/proc/self/status", user="7").out.splitlines()
    sets = dict(line.split(":\t") for line in lines if line.startswith("Cap"))
    assert int(sets["CapEff"], 16) == int(sets["CapPrm"], 16) == 0
    assert int(sets["CapBnd"], 16) != 0


def test_the_working_directory_is_made_for_root_and_entered_by_the_user(containers: Containers) -> None:
    outcome = containers.shell("pwd; ls -ld /a/b", user="7", cwd="/a/b")
    assert outcome.out.splitlines()[0] == "/a/b"
    assert outcome.out.splitlines()[1].startswith("drwxr-xr-x    2 0        0 ")


def test_names_are_the_containers_own(containers: Containers) -> None:
    outcome = containers.shell("hostname; cat /proc/sys/kernel/domainname", hostname="web", domainname="example.org")
    assert outcome.out.split() == ["web", "example.org"]


def test_a_ulimit_is_set(containers: Containers) -> None:
    rlimits = (limits.ulimit("nofile=64:128"), Rlimit(type="RLIMIT_CORE", soft=0, hard=0))
    assert containers.shell("ulimit -Sn; ulimit -Hn; ulimit -c", rlimits=rlimits).out.split() == ["64", "128", "0"]


def test_the_oom_score_can_be_raised(containers: Containers) -> None:
    assert containers.run("/bin/cat", "/proc/self/oom_score_adj", oom_score_adj=500).out == "500\n"


def test_a_sysctl_of_the_own_network_is_written(containers: Containers) -> None:
    before = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
    sysctls = limits.sysctls(("net.ipv4.ip_default_ttl=77", "kernel.msgmax=1234"), own_ipc=True, own_network=True)
    outcome = containers.run(
        "/bin/cat", "/proc/sys/net/ipv4/ip_default_ttl", "/proc/sys/kernel/msgmax", sysctls=sysctls
    )
    assert outcome.out.split() == ["77", "1234"]
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() == before


def test_a_tmpfs_is_empty_safe_and_looks_like_what_it_covers(containers: Containers, layers: tuple[str, ...]) -> None:
    wanted = (mounts.tmpfs("/kept:size=64k"), mounts.tmpfs("/fresh"))
    outcome = containers.shell("ls -ld /fresh /kept; cat /proc/mounts", layers=layers, mounts=wanted)
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["drwxrwxrwt", "drwxr-x---"]
    kept = next(line for line in lines if " /kept " in line)
    assert {"nosuid", "nodev", "noexec", "size=64k"} <= set(kept.split()[3].split(","))


def test_a_mount_inside_another_one_is_seen(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "code").write_text("code")
    outer = Mount(destination="/app", type="bind", source=str(tmp_path), options=("rbind",))
    inner = mounts.tmpfs("/app/cache")
    outcome = containers.shell("touch /app/cache/x; ls /app /app/cache", mounts=(inner, outer))
    assert outcome.out.split() == ["/app:", "cache", "code", "/app/cache:", "x"]
    assert os.listdir(tmp_path / "cache") == []


def test_shared_memory_has_its_size(containers: Containers) -> None:
    assert " size=1024k" in containers.run("/bin/cat", "/proc/mounts", shm_bytes=1 << 20).out.replace(",", " ")


def test_a_device_of_the_host_can_be_used_as_allowed(containers: Containers) -> None:
    nodes, rules = devices.find(devices.device("/dev/zero:/dev/nought:r"))
    outcome = containers.shell(
        "head -c 1 /dev/nought | /bin/busybox od -An -tx1; ls -l /dev/nought",
        devices=nodes,
        resources=Resources(devices=rules),
    )
    assert outcome.out.split()[0] == "00"
    assert outcome.out.split()[1] == "crw-rw-rw-"


def test_a_privileged_container_has_the_hosts_devices_and_nothing_is_masked(containers: Containers) -> None:
    granted = security.capabilities((), (), privileged=True, bounding_set=capabilities.bounding_set())
    script = (
        "cat /proc/self/status; /bin/busybox mkdir /tmp/m && mount -t tmpfs none /tmp/m && echo mounted;"
        "cat /proc/sys/kernel/domainname > /proc/sys/kernel/domainname; ls /dev"
    )
    outcome = containers.shell(
        script,
        privileged=True,
        capabilities=granted.names,
        devices=devices.all_of_host(),
    )
    assert f"CapEff:\t{capabilities.bounding_set():016x}" in outcome.out
    assert "Seccomp:\t0" in outcome.out
    assert "mounted" in outcome.out
    assert "Read-only file system" not in outcome.err
    assert {"null", "kmsg"} & set(os.listdir("/dev")) <= set(outcome.out.split())


def test_system_paths_can_be_left_unmasked(containers: Containers) -> None:
    outcome = containers.shell("head -c 100 /proc/interrupts", unmasked=True)
    assert outcome.out.strip()


def test_the_etc_files_are_the_bundles_and_writable(containers: Containers, tmp_path: Path) -> None:
    for name, path in etc_files.paths(str(tmp_path)).items():
        Path(path).write_text(f"this is {name}\n")
    outcome = containers.shell(
        "cat /etc/hosts /etc/hostname /etc/resolv.conf; echo more >> /etc/hosts", mounts=etc_files.mounts(str(tmp_path))
    )
    assert outcome.out == "this is hosts\nthis is hostname\nthis is resolv.conf\n"
    assert (tmp_path / "hosts").read_text() == "this is hosts\nmore\n"


@pytest.mark.parametrize("oddity", ["link", "file"])
def test_an_image_whose_etc_is_odd_keeps_it_inside(containers: Containers, tmp_path: Path, oddity: str) -> None:
    image, bundle, outside = tmp_path / "image", tmp_path / "bundle", tmp_path / "outside"
    for directory in (image, bundle, outside):
        directory.mkdir()
    if oddity == "link":
        (image / "etc").symlink_to(outside)
    else:
        (image / "etc").write_text("not a directory")
    for path in etc_files.paths(str(bundle)).values():
        Path(path).write_text("bound\n")
    layers = (str(image), *containers.config.layers)
    if oddity == "file":
        with pytest.raises(StartFailed, match="attach bind"):
            containers.shell("true", layers=layers, mounts=etc_files.mounts(str(bundle)))
    else:
        assert containers.shell("cat /etc/hosts", layers=layers, mounts=etc_files.mounts(str(bundle))).out == "bound\n"
    assert os.listdir(outside) == []


@pytest.mark.parametrize("path", ["proc", "sys", "dev"])
@pytest.mark.parametrize("oddity", ["link", "file"])
def test_an_image_without_real_directories_for_the_kernel_is_refused(
    containers: Containers, tmp_path: Path, path: str, oddity: str
) -> None:
    if oddity == "link":
        (tmp_path / path).symlink_to("/tmp")
    else:
        (tmp_path / path).write_text("")
    with pytest.raises(StartFailed, match=f"/{path}: must be mounted on ordinary directory"):
        containers.shell("true", layers=(str(tmp_path), *containers.config.layers))


@pytest.mark.parametrize("mode", ["pid", "ipc", "uts", "cgroupns"])
def test_a_namespace_can_be_the_hosts(containers: Containers, mode: str) -> None:
    link = {"cgroupns": "cgroup"}.get(mode, mode)
    outcome = containers.run("/bin/busybox", "readlink", f"/proc/self/ns/{link}", **{mode: "host"})
    assert outcome.out.strip() == os.readlink(f"/proc/self/ns/{link}")


@pytest.mark.parametrize(("propagation", "is_seen"), [("rslave", True), ("rprivate", False)])
def test_what_the_host_mounts_later_is_seen_where_that_is_asked_for(
    containers: Containers, tmp_path: Path, propagation: str, is_seen: bool
) -> None:
    (tmp_path / "later").mkdir()
    with _shared_mount(tmp_path):
        options = ("rbind", "rw", propagation)
        bind = Mount(destination="/data", type="bind", source=str(tmp_path), options=options)
        container_id, _ = containers.start_sleeping(mounts=(bind,))
        mount.mount("tmpfs", str(tmp_path / "later"), "tmpfs", 0, "")
        (tmp_path / "later/file").touch()
        outcome = containers.exec(container_id, "/bin/ls", "/data/later")
        mount.umount2(str(tmp_path / "later"), mount.MNT_DETACH)
    assert (outcome.out == "file\n") == is_seen


@contextmanager
def _shared_mount(path: Path) -> Iterator[None]:
    mount.mount(str(path), str(path), "", mount.MS_BIND, "")
    mount.mount("", str(path), "", mount.MS_SHARED, "")
    try:
        yield
    finally:
        mount.umount2(str(path), mount.MNT_DETACH)
