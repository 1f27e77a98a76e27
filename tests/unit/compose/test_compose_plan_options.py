"""What a service's containers are created with, and what `run` makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.compose import naming
from lab.compose.model import (
    Deploy,
    FileObject,
    FileReference,
    Healthcheck,
    Link,
    MountType,
    Network,
    Port,
    Project,
    ResourceLimits,
    RestartPolicy,
    Service,
    ServiceNetwork,
    ServiceVolume,
    Ulimit,
    Volume,
)
from lab.compose.one_off import OneOff, one_off_options
from lab.compose.options import Place, options_of
from lab.container.options.run import RunOptions
from lab.container.spec import image
from lab.errors import SpecError

PLAIN = Service(name="web", image="nginx", networks={"default": ServiceNetwork()})
PROJECT = Project(
    name="shop",
    working_directory="/shop",
    files=("/shop/a.yaml", "/shop/b.yaml"),
    services={"web": PLAIN, "db": Service(name="db", image="db")},
    networks={
        "default": Network(key="default", name="shop_default"),
        "back": Network(key="back", name="shop_back"),
    },
    volumes={"data": Volume(key="data", name="shop_data")},
)


def options(service: Service = PLAIN, place: Place | None = None) -> RunOptions:
    project = replace(PROJECT, services={**PROJECT.services, "web": service})
    return options_of(project, service, place or Place())


def with_volume(**given: object) -> RunOptions:
    return options(replace(PLAIN, volumes=(ServiceVolume(**given),)))  # type: ignore[arg-type] # its fields


def test_labels_are_those_of_docker_compose() -> None:
    labels = options(replace(PLAIN, labels={"mine": "1"}), Place(number=2, image_id="sha256:i")).labels
    assert labels == {
        "mine": "1",
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": "web",
        "com.docker.compose.container-number": "2",
        "com.docker.compose.oneoff": "False",
        "com.docker.compose.config-hash": labels["com.docker.compose.config-hash"],
        "com.docker.compose.image": "sha256:i",
        "com.docker.compose.depends_on": "",
        "com.docker.compose.project.working_dir": "/shop",
        "com.docker.compose.project.config_files": "/shop/a.yaml,/shop/b.yaml",
        "com.docker.compose.version": labels["com.docker.compose.version"],
    }


def test_a_container_has_its_own_name_and_its_services_on_each_network_and_others_links() -> None:
    service = replace(
        PLAIN,
        networks={
            "default": ServiceNetwork(aliases=("www",)),
            "back": ServiceNetwork(priority=9, ipv4_address="10.0.0.5"),
        },
    )
    linking = replace(PROJECT.services["db"], links=(Link(service="web", alias="shown"),))
    project = replace(PROJECT, services={"web": service, "db": linking})
    found = options_of(project, service, Place(number=2))
    assert [(each.network, each.aliases, each.address) for each in found.endpoints] == [
        ("shop_back", ("shop-web-2", "web", "shown"), "10.0.0.5"),
        ("shop_default", ("shop-web-2", "web", "shown", "www"), ""),
    ]
    assert found.network == "shop_back"


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("host", "host"), ("none", "none"), ("service:db", "container:shop-db-1"), ("container:x", "container:x")],
)
def test_a_network_mode_is_in_place_of_networks(mode: str, expected: str) -> None:
    found = options(replace(PLAIN, network_mode=mode, networks={}))
    assert (found.network, found.endpoints) == (expected, ())


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        (Port(target=80), "80/tcp"),
        (Port(target=80, published_first=8080, published_last=8080), "8080:80/tcp"),
        (Port(target=53, published_first=53, published_last=53, protocol="udp", host_ip="::1"), "[::1]:53:53/udp"),
        (Port(target=80, published_first=8000, published_last=8010), "8000-8010:80/tcp"),
        (Port(target=80, host_ip="127.0.0.1"), "127.0.0.1::80/tcp"),
    ],
)
def test_ports_are_published_as_run_does_it(port: Port, expected: str) -> None:
    assert options(replace(PLAIN, ports=(port,))).publish == (expected,)


@pytest.mark.parametrize(
    ("given", "volumes", "mounts"),
    [
        ({"type": MountType.BIND, "source": "/a", "target": "/b", "create_host_path": True}, ("/a:/b",), ()),
        (
            {"type": MountType.BIND, "source": "/a", "target": "/b", "create_host_path": True, "read_only": True},
            ("/a:/b:ro",),
            (),
        ),
        ({"type": MountType.BIND, "source": "/a,b", "target": "/b"}, (), ('type=bind,"source=/a,b",target=/b',)),
        ({"type": MountType.VOLUME, "source": "data", "target": "/d"}, (), ("type=volume,source=shop_data,target=/d",)),
        (
            {"type": MountType.VOLUME, "target": "/d"},
            (),
            ("type=volume,target=/d,volume-label=com.docker.compose.project=shop",),
        ),
        (
            {"type": MountType.TMPFS, "target": "/t", "tmpfs_size_bytes": 64, "tmpfs_mode": 0o700},
            (),
            ("type=tmpfs,target=/t,tmpfs-size=64,tmpfs-mode=700",),
        ),
    ],
)
def test_volumes_are_mounted_as_run_does_it(
    given: dict[str, object], volumes: tuple[str, ...], mounts: tuple[str, ...]
) -> None:
    found = with_volume(**given)
    assert (found.volumes, found.mounts) == (volumes, mounts)


def test_anonymous_volumes_go_over_to_the_next_container_and_files_are_mounted_read_only() -> None:
    service = replace(PLAIN, volumes=(ServiceVolume(type=MountType.VOLUME, target="/a"),))
    place = Place(
        inherits={"/a": "v1", "/of-image": "v2"}, of_image=("/of-image", "/new"), files={"/run/secrets/s": "/host/s"}
    )
    assert options(service, place).mounts == (
        "type=volume,source=v1,target=/a",
        "type=volume,source=v2,target=/of-image",
        "type=volume,target=/new,volume-label=com.docker.compose.project=shop",
        "type=bind,source=/host/s,target=/run/secrets/s,readonly=true",
    )


def test_limits_of_the_service_count_more_than_those_of_its_deploy_section() -> None:
    deploy = Deploy(
        limits=ResourceLimits(cpus=0.5, memory_bytes=64, pids=9), reservations=ResourceLimits(memory_bytes=32)
    )
    found = options(replace(PLAIN, deploy=deploy, cpus=1.5, ulimits={"nofile": Ulimit(soft=1, hard=2)}))
    assert (found.cpus, found.memory_bytes, found.pids_limit, found.memory_reservation_bytes) == (1.5, 64, 9, 32)
    assert found.ulimits == ("nofile=1:2",)


@pytest.mark.parametrize(
    ("restart", "policy", "expected"),
    [
        ("", None, ("no", 0)),
        ("on-failure:3", None, ("on-failure", 3)),
        ("unless-stopped", RestartPolicy(condition="none"), ("unless-stopped", 0)),
        ("", RestartPolicy(), ("always", 0)),
        ("", RestartPolicy(condition="on-failure", max_attempts=2), ("on-failure", 2)),
    ],
)
def test_restart_policies_of_both_kinds_are_the_engines(
    restart: str, policy: RestartPolicy | None, expected: tuple[str, int]
) -> None:
    found = options(replace(PLAIN, restart=restart, deploy=Deploy(restart_policy=policy)))
    assert (found.restart, found.restarts_most) == expected


def test_an_unknown_restart_policy_is_refused() -> None:
    with pytest.raises(SpecError, match="invalid restart policy 'sometimes'"):
        options(replace(PLAIN, restart="sometimes"))


def test_health_checks_and_grace_periods_keep_their_units() -> None:
    check = Healthcheck(test=("CMD", "true"), interval_ns=5, retries=2)
    found = options(replace(PLAIN, healthcheck=check, stop_grace_period_ns=1_500_000_000))
    assert found.healthcheck == image.Healthcheck(test=("CMD", "true"), interval=5, retries=2)
    assert found.stop_timeout_s == 2
    disabled = options(replace(PLAIN, healthcheck=Healthcheck(disable=True)))
    assert disabled.healthcheck == image.Healthcheck(test=("NONE",))


def test_what_the_engine_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="service web: external_links cannot be had"):
        options(replace(PLAIN, external_links=("x",)))


def test_run_makes_a_container_that_up_does_not_count_without_ports_and_names() -> None:
    service = replace(PLAIN, ports=(Port(target=80),), restart="always", command=("serve",), environment={"A": "1"})
    asked = OneOff(command=("sh",), env=("B=2",), removes=True, publish=("9:9",))
    found = one_off_options(PROJECT, service, asked, Place(), slug="s1")
    assert (found.command, found.env, found.publish) == (("sh",), ("A=1", "B=2"), ("9:9",))
    assert (found.restart, found.removes, found.endpoints[0].aliases) == ("no", True, ())
    assert (found.labels[naming.ONE_OFF], found.labels[naming.SLUG]) == ("True", "s1")
    kept = one_off_options(PROJECT, service, OneOff(service_ports=True, aliases=True), Place(), slug="s1")
    assert (kept.command, kept.publish) == (("serve",), ("80/tcp",))
    assert "web" in kept.endpoints[0].aliases


def test_an_entrypoint_of_run_takes_the_services_command_away() -> None:
    service = replace(PLAIN, entrypoint=("a",), command=("b",))
    found = one_off_options(PROJECT, service, OneOff(entrypoint=("c",)), Place(), slug="s")
    assert (found.entrypoint, found.command) == (("c",), ())


def test_the_hash_knows_what_compose_writes_into_files() -> None:
    secret = FileObject(key="token", name="token", environment="TOKEN")
    service = replace(PLAIN, secrets=(FileReference(source="token", target="/run/secrets/token"),))
    one, other = (
        naming.config_hash(replace(PROJECT, secrets={"token": secret}, environment={"TOKEN": value}), service)
        for value in ("a", "b")
    )
    assert one != other
    outside = replace(secret, environment="", file="/shop/token")
    assert naming.config_hash(replace(PROJECT, secrets={"token": outside}), service) not in (one, other)
