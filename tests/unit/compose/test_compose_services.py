"""What each key of a service comes to: short and long forms, units, defaults."""

from __future__ import annotations

import os
import textwrap

import pytest

from lab.compose.model import (
    Build,
    Condition,
    Dependency,
    Deploy,
    EnvFile,
    FileReference,
    Healthcheck,
    Hook,
    Link,
    Logging,
    MountType,
    Port,
    ResourceLimits,
    RestartPolicy,
    Service,
    ServiceNetwork,
    ServiceVolume,
    Ulimit,
    WatchAction,
    WatchRule,
)
from lab.units import NS_PER_S

from .conftest import Load

_REST = """
  db: {image: db}
  cache: {image: cache, profiles: [extra]}
networks: {front: , back: }
volumes: {data: }
configs: {conf: {content: text}}
secrets: {key: {file: ./key.txt}}
"""


def _service(project: Load, keys: str, environment: dict[str, str] | None = None) -> Service:
    text = "services:\n  web:\n    image: web\n" + textwrap.indent(textwrap.dedent(keys), "    ") + _REST
    return project(text, environment=environment or {}).services["web"]


def _here(path: str) -> str:
    return os.path.normpath(os.path.join(os.getcwd(), path))


@pytest.mark.parametrize(
    ("keys", "field", "value"),
    [
        ("command: echo 'a b' c\\ d", "command", ("echo", "a b", "c d")),
        ("command: [echo, a b, 1, true]", "command", ("echo", "a b", "1", "true")),
        ("command: [a, a]", "command", ("a", "a")),
        ("command: []", "command", ()),
        ("command: ''", "command", ()),
        ("command:", "command", None),
        ("entrypoint: /run.sh -x", "entrypoint", ("/run.sh", "-x")),
        ("entrypoint:", "entrypoint", None),
        ("environment: {A: 1, B: true, C: 1.50, D: '', E: x=y}", "environment",
         {"A": "1", "B": "true", "C": "1.5", "D": "", "E": "x=y"}),
        ("environment: [A=1, 'B= x ', OUT, NONE]", "environment", {"A": "1", "B": " x ", "OUT": "out", "NONE": None}),
        ("environment: {OUT: , NONE: }", "environment", {"OUT": "out", "NONE": None}),
        ("expose: [80, 90-92/udp]", "expose", ("80", "90-92/udp")),
        ("restart: 'no'", "restart", "no"),
        ("restart: no", "restart", "no"),
        ("restart: on-failure:3", "restart", "on-failure:3"),
        ("deploy: {restart_policy: {condition: on-failure, max_attempts: 2}}", "restart", "on-failure:2"),
        ("deploy: {restart_policy: {condition: any}}", "restart", "always"),
        ("stop_grace_period: 1m30s", "stop_grace_period_ns", 90 * NS_PER_S),
        ("mem_limit: 512m", "mem_limit_bytes", 512 << 20),
        ("mem_limit: 1048576", "mem_limit_bytes", 1 << 20),
        ("mem_reservation: 64MB", "mem_reservation_bytes", 64 << 20),
        ("memswap_limit: -1", "memswap_limit_bytes", -1),
        ("shm_size: '1.5g'", "shm_bytes", 3 << 29),
        ("cpus: '0.5'", "cpus", 0.5),
        ("cpus: 2", "cpus", 2.0),
        ("cpu_period: 50ms", "cpu_period_us", 50_000),
        ("cpu_quota: 12500", "cpu_quota_us", 12_500),
        ("cpuset: 0,1", "cpuset", "0,1"),
        ("pids_limit: -1", "pids_limit", -1),
        ("deploy: {resources: {limits: {cpus: '1.5', memory: 1g, pids: 9}}}", "cpus", 1.5),
        ("deploy: {resources: {limits: {cpus: '1.5', memory: 1g, pids: 9}}}", "mem_limit_bytes", 1 << 30),
        ("deploy: {resources: {limits: {cpus: '1.5', memory: 1g, pids: 9}}}", "pids_limit", 9),
        ("deploy: {resources: {reservations: {memory: 20m}}}", "mem_reservation_bytes", 20 << 20),
        ("deploy: {replicas: 3}", "replicas", 3),
        ("scale: 0", "replicas", 0),
        ("stop_grace_period: 0", "stop_grace_period_ns", 0),
        ("init: true", "init", True),
        ("init: false", "init", False),
        ("tty: 'yes'", "tty", True),
        ("stdin_open: ${ON:-true}", "stdin_open", True),
        ("privileged: false", "privileged", False),
        ("user: 1000", "user", "1000"),
        ("group_add: [1000, mail]", "group_add", ("1000", "mail")),
        ("labels: [a.b=c, d]", "labels", {"a.b": "c", "d": ""}),
        ("labels: {a.b: 1, d: }", "labels", {"a.b": "1", "d": ""}),
        ("annotations: {x: y}", "annotations", {"x": "y"}),
        ("dns: 1.1.1.1", "dns", ("1.1.1.1",)),
        ("dns: [1.1.1.1, 2.2.2.2]", "dns", ("1.1.1.1", "2.2.2.2")),
        ("dns_search: example.com", "dns_search", ("example.com",)),
        ("dns_opt: [use-vc]", "dns_opt", ("use-vc",)),
        ("tmpfs: /run", "tmpfs", ("/run",)),
        ("tmpfs: ['/run:size=1m', /tmp]", "tmpfs", ("/run:size=1m", "/tmp")),
        ("cap_add: [NET_ADMIN, NET_ADMIN]", "cap_add", ("NET_ADMIN",)),
        ("extra_hosts: ['a:1.2.3.4', 'b=::1', 'c:[::1]']", "extra_hosts", ("a:1.2.3.4", "b:::1", "c:::1")),
        ("extra_hosts: {a: 1.2.3.4, b: ['::1', host-gateway]}", "extra_hosts",
         ("a:1.2.3.4", "b:::1", "b:host-gateway")),
        ("sysctls: [net.core.somaxconn=1024]", "sysctls", {"net.core.somaxconn": "1024"}),
        ("sysctls: {net.core.somaxconn: 1024}", "sysctls", {"net.core.somaxconn": "1024"}),
        ("ulimits: {nproc: 65535, nofile: {soft: 1, hard: 2}}", "ulimits",
         {"nproc": Ulimit(soft=65535, hard=65535), "nofile": Ulimit(soft=1, hard=2)}),
        ("devices: ['/dev/a', '/dev/b:/dev/c', '/dev/d:/dev/e:r']", "devices",
         ("/dev/a:/dev/a:rwm", "/dev/b:/dev/c:rwm", "/dev/d:/dev/e:r")),
        ("devices: [{source: /dev/a, permissions: r}]", "devices", ("/dev/a:/dev/a:r",)),
        ("logging: {driver: json-file, options: {max-file: 3}}", "logging",
         Logging(driver="json-file", options={"max-file": "3"})),
        ("healthcheck: {test: curl -f x, interval: 5s, timeout: 1m, retries: 3, start_period: 2s, start_interval: 1s}",
         "healthcheck", Healthcheck(test=("CMD-SHELL", "curl -f x"), interval_ns=5 * NS_PER_S, timeout_ns=60 * NS_PER_S,
                                    retries=3, start_period_ns=2 * NS_PER_S, start_interval_ns=NS_PER_S)),
        ("healthcheck: {test: [CMD, a]}", "healthcheck", Healthcheck(test=("CMD", "a"))),
        ("healthcheck: {disable: true}", "healthcheck", Healthcheck(test=("NONE",), disable=True)),
        ("healthcheck: {test: [NONE]}", "healthcheck", Healthcheck(test=("NONE",), disable=True)),
        ("depends_on: [db]", "depends_on", {"db": Dependency()}),
        ("depends_on: {db: {condition: service_healthy, restart: true}}", "depends_on",
         {"db": Dependency(condition=Condition.HEALTHY, restart=True)}),
        ("depends_on: {cache: {condition: service_started, required: false}}", "depends_on",
         {"cache": Dependency(required=False)}),
        ("links: ['db:store', db]", "links", (Link(service="db", alias="store"), Link(service="db", alias="db"))),
        ("links: [db]", "depends_on", {"db": Dependency(restart=True)}),
        ("network_mode: service:db", "depends_on", {"db": Dependency(restart=True)}),
        ("network_mode: host", "networks", {}),
        ("pid: service:db", "depends_on", {"db": Dependency(restart=True)}),
        ("volumes_from: ['db:ro', 'container:x']", "depends_on", {"db": Dependency()}),
        ("tty: true", "networks", {"default": ServiceNetwork()}),
        ("networks: [back, front]", "networks", {"back": ServiceNetwork(), "front": ServiceNetwork()}),
        ("networks: {front: , back: {aliases: [a], ipv4_address: 10.0.0.2, mac_address: '02:01', priority: 9}}",
         "networks", {"front": ServiceNetwork(), "back": ServiceNetwork(
             aliases=("a",), ipv4_address="10.0.0.2", mac_address="02:01", priority=9)}),
        ("pull_policy: every_2d", "pull_policy", "every_2d"),
        ("blkio_config: {weight: 300, device_read_bps: [{path: /dev/sda, rate: 1mb}]}", "blkio_config",
         ("blkio-weight=300", "device-read-bps=/dev/sda:1048576")),
        ("post_start: [{command: [a, b], user: root}]", "post_start", (Hook(command=("a", "b"), user="root"),)),
        ("deploy: {replicas: 2, resources: {limits: {pids: 3}}, restart_policy: {delay: 5s}}", "deploy",
         Deploy(replicas=2, limits=ResourceLimits(pids=3), restart_policy=RestartPolicy(delay_ns=5 * NS_PER_S))),
        ("x-anything: [1]", "image", "web"),
    ],
)  # fmt: skip
def test_a_key_comes_to(project: Load, keys: str, field: str, value: object) -> None:
    assert getattr(_service(project, keys, {"OUT": "out"}), field) == value


@pytest.mark.parametrize(
    ("port", "ports"),
    [
        ("80", [Port(target=80)]),
        ("'8080:80'", [Port(target=80, published_first=8080, published_last=8080)]),
        ("22:22", [Port(target=22, published_first=22, published_last=22)]),
        ("'127.0.0.1:8080:80/udp'",
         [Port(target=80, published_first=8080, published_last=8080, host_ip="127.0.0.1", protocol="udp")]),
        ("'127.0.0.1::80'", [Port(target=80, host_ip="127.0.0.1")]),
        ("'[::1]:8080:80'", [Port(target=80, published_first=8080, published_last=8080, host_ip="::1")]),
        ("3000-3001", [Port(target=3000), Port(target=3001)]),
        ("'9090-9091:80-81'", [Port(target=80, published_first=9090, published_last=9090),
                               Port(target=81, published_first=9091, published_last=9091)]),
        ("'8000-8010:80'", [Port(target=80, published_first=8000, published_last=8010)]),
        ("{target: 80}", [Port(target=80)]),
        ("{target: 80, published: 8080, protocol: udp, mode: host, host_ip: 10.0.0.1, name: n, app_protocol: http}",
         [Port(target=80, published_first=8080, published_last=8080, protocol="udp", mode="host", host_ip="10.0.0.1",
               name="n", app_protocol="http")]),
        ("{target: '80', published: '8000-8010'}", [Port(target=80, published_first=8000, published_last=8010)]),
    ],
)  # fmt: skip
def test_a_port_comes_to(project: Load, port: str, ports: list[Port]) -> None:
    assert list(_service(project, f"ports: [{port}]").ports) == ports


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("data:/x", ServiceVolume(type=MountType.VOLUME, source="data", target="/x")),
        ("data:/x/:ro", ServiceVolume(type=MountType.VOLUME, source="data", target="/x", read_only=True)),
        ("data:/x:nocopy", ServiceVolume(type=MountType.VOLUME, source="data", target="/x", nocopy=True)),
        ("/x", ServiceVolume(type=MountType.VOLUME, target="/x")),
        ("/src:/x:rw,z,rshared", ServiceVolume(type=MountType.BIND, source="/src", target="/x", create_host_path=True,
                                               selinux="z", propagation="rshared")),
        ("{type: bind, source: /src, target: /x, bind: {create_host_path: false, propagation: shared}}",
         ServiceVolume(type=MountType.BIND, source="/src", target="/x", propagation="shared")),
        ("{type: bind, source: /src, target: /x}",
         ServiceVolume(type=MountType.BIND, source="/src", target="/x", create_host_path=True)),
        ("{type: volume, source: data, target: /x, volume: {nocopy: true, subpath: a/b}}",
         ServiceVolume(type=MountType.VOLUME, source="data", target="/x", nocopy=True, subpath="a/b")),
        ("{type: tmpfs, target: /x, tmpfs: {size: 1m, mode: 01770}}",
         ServiceVolume(type=MountType.TMPFS, target="/x", tmpfs_size_bytes=1 << 20, tmpfs_mode=0o1770)),
        ("{type: image, source: busybox, target: /x, image: {subpath: bin}}",
         ServiceVolume(type=MountType.IMAGE, source="busybox", target="/x", subpath="bin")),
    ],
)  # fmt: skip
def test_a_volume_comes_to(project: Load, text: str, volume: ServiceVolume) -> None:
    quoted = text if text.startswith("{") else f"'{text}'"
    assert _service(project, f"volumes: [{quoted}]").volumes == (volume,)


def test_paths_start_from_the_directory_of_the_project(project: Load) -> None:
    found = _service(project, "volumes: ['.:/a', './b:/b', '../c:/c', '~/d:/d', {type: bind, source: e, target: /e}]")
    home = os.path.expanduser("~/d")
    assert [each.source for each in found.volumes] == [_here("."), _here("b"), _here("../c"), home, _here("e")]
    assert all(each.type == MountType.BIND for each in found.volumes)


def test_configs_and_secrets_have_their_places(project: Load) -> None:
    found = _service(
        project,
        """
        configs: [conf, {source: conf, target: /etc/x.conf, uid: '1', gid: 2, mode: 0440}]
        secrets: [key, {source: key, target: other, mode: '0400'}, {source: key, target: /abs}]
        """,
    )
    assert found.configs == (
        FileReference(source="conf", target="/conf"),
        FileReference(source="conf", target="/etc/x.conf", uid="1", gid="2", mode=0o440),
    )
    assert [each.target for each in found.secrets] == ["/run/secrets/key", "/run/secrets/other", "/abs"]
    assert found.secrets[1].mode == 0o400


def test_a_build_is_its_context_or_a_section(project: Load) -> None:
    assert _service(project, "build: ./web").build == Build(context=_here("web"))
    found = _service(
        project,
        """
        build:
          context: https://example.com/x.git#main
          dockerfile: Dockerfile.dev
          args: [A=1, OUT, NONE]
          target: dev
          cache_from: [one]
          labels: {a: b}
          network: host
          no_cache: true
          pull: true
          shm_size: 64m
          extra_hosts: ['a:1.2.3.4']
          secrets: [key, {source: key, target: id}]
          additional_contexts: {base: ./base, image: docker-image://alpine}
          tags: [x:1]
        """,
        {"OUT": "out"},
    ).build
    assert found == Build(
        context="https://example.com/x.git#main",
        dockerfile="Dockerfile.dev",
        args={"A": "1", "OUT": "out", "NONE": None},
        target="dev",
        cache_from=("one",),
        labels={"a": "b"},
        network="host",
        no_cache=True,
        pull=True,
        shm_bytes=64 << 20,
        extra_hosts=("a:1.2.3.4",),
        secrets=(FileReference(source="key", target="key"), FileReference(source="key", target="id")),
        additional_contexts={"base": _here("base"), "image": "docker-image://alpine"},
        tags=("x:1",),
    )


def test_watch_rules_have_absolute_paths(project: Load) -> None:
    found = _service(
        project,
        """
        develop:
          watch:
            - {action: sync+restart, path: ./src, target: /src, ignore: node_modules/}
            - {action: sync+exec, path: ./conf, target: /etc, exec: {command: nginx -s reload}}
        """,
    )
    assert found.watch == (
        WatchRule(action=WatchAction.SYNC_RESTART, path=_here("src"), target="/src", ignore=("node_modules/",)),
        WatchRule(action=WatchAction.SYNC_EXEC, path=_here("conf"), target="/etc", command=("nginx", "-s", "reload")),
    )


def test_files_of_variables_come_before_the_environment(project: Load) -> None:
    files = {
        "a.env": "A=a\nB=a\nC=a\nOUT\n",
        "b.env": "B=b\nD=$A-$OUT\n",
        "raw.env": "R='$A'\n",
        "compose.yaml": """
            services:
              web:
                image: web
                env_file:
                  - a.env
                  - {path: ./b.env}
                  - {path: raw.env, format: raw}
                  - {path: none.env, required: false}
                environment: {C: own}
            """,
    }
    found = project(files, environment={"OUT": "out"}).services["web"]
    assert found.environment == {
        "A": "a", "B": "b", "C": "own", "OUT": "out", "D": "a-out", "R": "'$A'",
    }  # fmt: skip
    assert found.env_files[3] == EnvFile(path=_here("none.env"), required=False)


def test_files_of_labels_come_before_the_labels(project: Load) -> None:
    files = {
        "a.labels": "a=1\nb=1\n",
        "compose.yaml": "services: {web: {image: web, label_file: a.labels, labels: [b=2]}}",
    }
    assert project(files).services["web"].labels == {"a": "1", "b": "2"}


def test_one_file_of_variables_needs_no_list(project: Load) -> None:
    files = {"a.env": "A=1\n", "compose.yaml": "services: {web: {image: web, env_file: a.env}}"}
    assert project(files).services["web"].environment == {"A": "1"}
