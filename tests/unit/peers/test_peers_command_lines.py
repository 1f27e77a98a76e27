"""What the peers are called with: the same image, limits, volumes and program for each."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.linux.cgroup.layout import CgroupKind, CgroupLayout, Hierarchy
from lab.paths import Paths
from lab.target.backends import oci_bundle
from lab.target.backends.docker import DockerNetwork, users_daemon
from lab.target.backends.dockerd import PrivateDaemon
from lab.target.backends.engine_cli import EngineCli, create_arguments
from lab.target.backends.oci_runtime import _ARMS, RuntimeProgram
from lab.target.backends.podman import PodmanBackend
from lab.target.spec import Command, Limits, NetworkMode, TargetSpec, Volume

SPEC = TargetSpec(
    name="lab-run-7",
    image="sha256:00",
    command=Command(argv=("/bin/serve", "--port", "80"), env=(("A", "b=c d"),), cwd="/srv"),
    limits=Limits(vcpus=2, memory_bytes=100_000_000, pids=64),
    volumes=(Volume(source="/src", path="/in", read_only=True), Volume(source="/out", path="/out")),
    cgroup_parent="lab/run",
)
PATHS = Paths.under("/r")
V1 = Hierarchy(version=1, mount_point="/cg/memory", controllers=("memory",))
V2 = Hierarchy(version=2, mount_point="/cg/unified", controllers=())
HYBRID = CgroupLayout(kind=CgroupKind.HYBRID, hierarchies=(V1, V2))
UNIFIED = CgroupLayout(kind=CgroupKind.UNIFIED, hierarchies=(V2,))

words = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1), min_size=1)


def values(arguments: tuple[str, ...], option: str) -> list[str]:
    return [after for before, after in itertools.pairwise(arguments) if before == option]


def test_an_engine_is_asked_for_the_limits_the_parent_and_no_other_image() -> None:
    arguments = create_arguments(SPEC, "sha256:ab", (), "")
    expected = {
        "--name": "lab-run-7", "--memory": "100000000", "--cpus": "2", "--pids-limit": "64",
        "--cgroup-parent": "/lab/run", "--pull": "never", "--workdir": "/srv", "--env": "A=b=c d",
    }  # fmt: skip
    assert {option: values(arguments, option) for option in expected} == {
        option: [value] for option, value in expected.items()
    }


def test_an_engine_sees_volumes_and_scratch_space_as_they_are_asked_for() -> None:
    arguments = create_arguments(SPEC, "i", (), "/scratch")
    assert values(arguments, "--volume") == [
        "/src:/in:ro",
        "/out:/out",
        "/scratch:/data",
    ]


def test_no_limit_of_tasks_is_no_option() -> None:
    spec = TargetSpec(name="n", image="i", command=Command(argv=("x",)), limits=Limits(pids=None))
    assert "--pids-limit" not in create_arguments(spec, "i", (), "")


@given(words)
def test_a_program_and_its_arguments_reach_an_engine_word_by_word(argv: list[str]) -> None:
    spec = TargetSpec(name="n", image="i", command=Command(argv=tuple(argv)))
    arguments = create_arguments(spec, "IMAGE-ID", ("--network", "none"), "")
    at = len(arguments) - len(argv)
    assert arguments[at] == "IMAGE-ID"
    assert [*values(arguments[:at], "--entrypoint"), *arguments[at + 1 :]] == argv


def test_an_engines_verb_comes_after_how_it_is_reached() -> None:
    cli = EngineCli(name="docker", prefix=("docker", "-H", "unix:///s"))
    assert cli.argv("ps", "--all") == ("docker", "-H", "unix:///s", "ps", "--all")


@pytest.mark.parametrize(("own", "network"), [(False, "bridge"), (True, "labd-")])
def test_dockers_network_is_its_bridge_or_on_the_labs_own_daemon_the_labs(own: bool, network: str) -> None:
    cli = EngineCli(name="docker", prefix=("true",))  # as if each network were there
    connection = DockerNetwork(cli, PATHS, own=own)
    assert connection.options(SPEC) == ("--network", "none")
    bridged = TargetSpec(name="n", image="i", command=Command(argv=("x",)), network=NetworkMode.BRIDGE)
    (option, name) = connection.options(bridged)
    assert (option, name.startswith(network), len(name) <= 15) == ("--network", True, True)


def test_dockers_address_is_that_of_the_network_that_was_asked_for() -> None:
    connection = DockerNetwork(EngineCli(name="docker", prefix=("true",)), PATHS, own=False)
    networks = {"bridge": {"IPAddress": "172.17.0.2"}, "other": {"IPAddress": "172.18.0.2"}}
    assert connection.address(SPEC, {"NetworkSettings": {"Networks": networks}}) == "172.17.0.2"
    assert connection.address(SPEC, {}) == ""


def test_without_a_socket_there_is_no_daemon_of_the_users() -> None:
    assert users_daemon("", "/no/such.sock") == ""


def test_the_labs_own_dockerd_touches_neither_firewall_nor_forwarding() -> None:
    argv = PrivateDaemon(PATHS)._argv()
    assert {"--iptables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none"} <= set(argv)
    assert [word for word in argv if word.startswith(("--data-root", "--exec-root", "--host", "--pidfile"))] == [
        "--host=unix:///r/run/dockerd/docker.sock", "--data-root=/r/docker", "--exec-root=/r/run/dockerd/exec",
        "--pidfile=/r/run/dockerd/pid",
    ]  # fmt: skip


def test_podman_keeps_everything_below_the_root_and_makes_no_log(tmp_path: Path) -> None:
    cli = PodmanBackend(Paths.under(str(tmp_path)))._cli()
    options = ("--root=", "--runroot=", "--tmpdir=", "CONTAINERS_CONF=")
    places = [word for word in cli.prefix if word.startswith(options)]
    assert len(places) == 4
    assert all(f"={tmp_path}/" in place for place in places)
    assert 'log_driver = "none"' in (tmp_path / "run/podman/containers.conf").read_text()


@pytest.mark.parametrize("name", ["runc", "crun", "runsc"])
def test_a_runtime_keeps_its_state_below_the_root_and_writes_its_log_as_json(name: str) -> None:
    program = RuntimeProgram(name=name, arm=_ARMS[name], root=f"/r/run/{name}", layout=UNIFIED)
    argv = program.argv("run", "x", network=NetworkMode.NONE, log="/log")
    assert argv[0] == name
    assert {f"--root=/r/run/{name}", "--log=/log", "--log-format=json"} <= set(argv)
    assert argv[-2:] == ("run", "x")


def test_crun_is_started_out_of_sight_of_cgroup_v2_on_hybrid_hosts_only() -> None:
    def argv(name: str, layout: CgroupLayout) -> tuple[str, ...]:
        program = RuntimeProgram(name=name, arm=_ARMS[name], root="/r", layout=layout)
        return program.argv("list", network=NetworkMode.NONE, log="/log")

    assert argv("crun", HYBRID)[:2] == ("unshare", "--mount")
    assert argv("crun", HYBRID)[argv("crun", HYBRID).index("crun") - 1] == "/cg/unified"
    assert argv("crun", UNIFIED)[0] == "crun"
    assert argv("runc", HYBRID)[0] == "runc"


def test_gvisor_needs_no_virtualisation_and_gets_the_network_that_was_asked_for() -> None:
    program = RuntimeProgram(name="runsc", arm=_ARMS["runsc"], root="/r", layout=HYBRID)
    assert {"--platform=ptrace", "--network=none"} <= set(program.argv("run", network=NetworkMode.NONE, log="l"))
    assert "--network=host" in program.argv("run", network=NetworkMode.BRIDGE, log="l")


def test_a_bundle_says_what_an_engines_command_line_says() -> None:
    document = oci_bundle.document(SPEC, rootfs="/rootfs", scratch="/scratch", netns="/run/ns")
    assert document["process"]["args"] == list(SPEC.command.argv)
    assert document["process"]["cwd"] == "/srv"
    assert "A=b=c d" in document["process"]["env"]
    assert document["root"]["path"] == "/rootfs"
    assert document["linux"]["cgroupsPath"] == "/lab/run/lab-run-7"
    limits = document["linux"]["resources"]
    assert (limits["memory"]["limit"], limits["pids"]["limit"]) == (100_000_000, 64)
    assert limits["cpu"]["quota"] == 2 * limits["cpu"].get("period", 100_000)
    binds = {m["destination"]: (m["source"], m["options"]) for m in document["mounts"] if m.get("type") == "bind"}
    assert binds["/in"] == ("/src", ["rbind", "ro"])
    assert binds["/data"] == ("/scratch", ["rbind", "rw"])
    (network,) = (namespace for namespace in document["linux"]["namespaces"] if namespace["type"] == "network")
    assert network["path"] == "/run/ns"


def test_a_bundle_without_a_network_gets_a_namespace_of_its_own() -> None:
    document = oci_bundle.document(SPEC, rootfs="/rootfs", scratch="", netns="")
    (network,) = (namespace for namespace in document["linux"]["namespaces"] if namespace["type"] == "network")
    assert "path" not in network
    assert "/data" not in [mount["destination"] for mount in document["mounts"]]
