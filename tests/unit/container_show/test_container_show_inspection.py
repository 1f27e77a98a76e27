"""The document of a container, its status and its size, decided from files alone; and disk usage summed up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lab.container import inspection, supervision
from lab.container.containers import Container
from lab.container.defaults import ContainerConfig
from lab.container.defaults import spec as spec_of
from lab.container.health import HEALTHY, STARTING
from lab.container.options.run import RunOptions
from lab.container.record import ContainerRecord
from lab.container.spec.image import ExecutionConfig
from lab.container.spec.runtime import Status
from lab.container.state import ContainerState, ProcessIdentity
from lab.container.storage import disk
from lab.units import NS_PER_S

ID = "c0ffee" + "0" * 58
MINUTE = 60 * NS_PER_S
IMAGE = ExecutionConfig(env=("PATH=/bin", "LANG=C"), cmd=("serve",), labels={"a": "image", "b": "image"})


def make_container(bundle: Path, options: RunOptions, **changes: object) -> Container:
    record = ContainerRecord(
        id=ID, created_ns=1_700_000_000 * NS_PER_S, image_id="sha256:0", args=("serve",), options=options, image=IMAGE
    )
    state = ContainerState(
        id=ID,
        bundle=str(bundle),
        status=Status.RUNNING,
        owner=ProcessIdentity(pid=1, started_ticks=1),
        process=ProcessIdentity(pid=42, started_ticks=1),
        cgroup=f"lab/{ID}",
        layers=("/layers/top", "/layers/base"),
    )
    found = Container(name="web", record=record, state=state, started_ns=MINUTE, ended=None, is_paused=False)
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type] # each test says what it changes


def stopped(container: Container) -> ContainerState:
    return dataclasses.replace(container.state, status=Status.STOPPED)


def ended(code: int, next_restart: int = 0) -> supervision.Ended:
    return supervision.Ended(f"{code} {2 * MINUTE} {next_restart}")


def write_health(bundle: Path, status: str) -> None:
    import marshal

    (bundle / "health").write_bytes(marshal.dumps((status, 0, ((MINUTE, MINUTE, 0, b"fine"),))))


def document(container: Container, options: RunOptions) -> dict[str, object]:
    config = ContainerConfig(id=ID, args=("serve",), env=(*IMAGE.env, *options.env))
    return inspection.document(container, spec_of(config, "/rootfs", ()), inspection.Facts())


def test_one_that_runs_is_up_since_its_start(tmp_path: Path) -> None:
    container = make_container(tmp_path, RunOptions(image="web"))
    assert inspection.status_text(container, 6 * MINUTE) == "Up 5 minutes"
    frozen = dataclasses.replace(container, is_paused=True)
    assert inspection.status_text(frozen, 6 * MINUTE) == "Up 5 minutes (Paused)"


@pytest.mark.parametrize(("status", "shown"), [(STARTING, "health: starting"), (HEALTHY, "healthy")])
def test_health_is_part_of_the_status(tmp_path: Path, status: str, shown: str) -> None:
    write_health(tmp_path, status)
    container = make_container(tmp_path, RunOptions(image="web"))
    assert inspection.status_text(container, 2 * MINUTE) == f"Up About a minute ({shown})"


def test_one_that_has_ended_says_how_and_when(tmp_path: Path) -> None:
    container = make_container(tmp_path, RunOptions(image="web"))
    gone = dataclasses.replace(container, state=stopped(container), ended=ended(137))
    assert inspection.status_text(gone, 5 * MINUTE) == "Exited (137) 3 minutes ago"
    again = dataclasses.replace(gone, ended=ended(1, next_restart=2))
    assert inspection.status_text(again, 5 * MINUTE) == "Restarting (1) 3 minutes ago"


def test_one_that_never_ran_has_been_created(tmp_path: Path) -> None:
    container = make_container(tmp_path, RunOptions(image="web"), started_ns=0)
    made = dataclasses.replace(container, state=dataclasses.replace(container.state, status=Status.CREATED))
    assert inspection.status_text(made, MINUTE) == "Created"


def test_labels_of_the_container_replace_those_of_the_image(tmp_path: Path) -> None:
    container = make_container(tmp_path, RunOptions(image="web", labels={"b": "own", "c": "own"}))
    assert inspection.labels(container) == {"a": "image", "b": "own", "c": "own"}


def test_the_users_variables_come_first_and_those_of_every_process_not_at_all(tmp_path: Path) -> None:
    options = RunOptions(image="web", env=("A=b", "LANG=de"))
    config = document(make_container(tmp_path, options), options)["Config"]
    assert isinstance(config, dict)
    assert config["Env"] == ["A=b", "LANG=de", "PATH=/bin"]


def test_an_entrypoint_of_the_users_takes_the_images_command_away(tmp_path: Path) -> None:
    options = RunOptions(image="web", entrypoint=("sh",))
    config = document(make_container(tmp_path, options), options)["Config"]
    assert isinstance(config, dict)
    assert (config["Entrypoint"], config["Cmd"]) == (["sh"], None)


def test_limits_are_told_in_dockers_units(tmp_path: Path) -> None:
    options = RunOptions(
        image="web", memory_bytes=64 << 20, cpus=1.5, ulimits=("nofile=10:20",), cap_add=("net_admin", "ALL")
    )
    host = document(make_container(tmp_path, options), options)["HostConfig"]
    assert isinstance(host, dict)
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (64 << 20, 128 << 20, 1_500_000_000)
    assert host["Ulimits"] == [{"Name": "nofile", "Hard": 20, "Soft": 10}]
    assert host["CapAdd"] == ["CAP_NET_ADMIN", "ALL"]


def test_ports_can_be_reached_only_where_there_is_a_network(tmp_path: Path) -> None:
    for network, count in (("bridge", 1), ("none", 0)):
        container = make_container(tmp_path, RunOptions(image="web", network=network, expose=("80",)))
        assert len(inspection.listening_ports(container)) == count


def test_the_health_of_a_container_with_a_check_is_told_with_its_last_results(tmp_path: Path) -> None:
    write_health(tmp_path, HEALTHY)
    options = RunOptions(image="web")
    state = document(make_container(tmp_path, options), options)["State"]
    assert isinstance(state, dict)
    assert (state["Health"]["Status"], state["Health"]["Log"][0]["Output"]) == ("healthy", "fine")


def test_a_file_that_vanishes_while_it_is_counted_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert disk.content_bytes(str(tmp_path)) == 5
    assert disk.content_bytes(str(tmp_path / "gone")) == 0
