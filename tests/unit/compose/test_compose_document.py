"""A project as a document: reading it gives the same project."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lab.compose import document, yaml_text
from lab.compose.model import Project

from .conftest import Load

_WHOLE = """
name: whole
services:
  web:
    image: web:$$1
    build: {context: ., dockerfile: D, args: {A: a, B: }, target: t, labels: {l: m}, shm_size: 1m, secrets: [key],
            extra_hosts: ['h:::1'], additional_contexts: {x: ./x}, no_cache: true, tags: [a], ulimits: {core: 1}}
    command: [echo, "$$HOME", "", "true"]
    entrypoint: []
    environment: {A: "1", B: yes, C: , D: "a: b\\nc"}
    profiles: [p]
    depends_on: {db: {condition: service_healthy, restart: true}, cache: {condition: service_started, required: false}}
    links: ['db:store']
    external_links: [other]
    container_name: web1
    scale: 0
    deploy: {mode: replicated, labels: {a: b}, resources: {limits: {cpus: 0.5, memory: 64m, pids: 9},
             reservations: {memory: 32m}}, restart_policy: {condition: on-failure, delay: 1500ms, max_attempts: 0}}
    attach: false
    pull_policy: always
    platform: linux/amd64
    ports: ['127.0.0.1:8000-8010:80', '53:53/udp', 90, {target: 91, published: 91, mode: host, name: n}]
    expose: [70]
    networks: {front: {aliases: [w], ipv4_address: 10.0.0.9, priority: 3}, default: , back: {driver_opts: {a: 1}}}
    mac_address: '02:00:00:00:00:01'
    hostname: w
    extra_hosts: {h: [1.2.3.4, '::1']}
    dns: 1.1.1.1
    volumes: ['./src:/src:ro', 'data:/data:nocopy', /anon, {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 01777}},
              {type: bind, source: /x, target: /x, bind: {create_host_path: false, propagation: rslave}},
              {type: image, source: i, target: /i, image: {subpath: s}}]
    volumes_from: ['db:ro']
    tmpfs: /run:size=1m
    configs: [{source: conf, target: /c, uid: '1', mode: 0440}]
    secrets: [key]
    devices: ['/dev/null:/dev/x:r']
    user: '1000'
    init: false
    tty: true
    stop_signal: SIGINT
    stop_grace_period: 1h0m1.5s
    healthcheck: {test: 'exit 0', interval: 1ms, retries: 0}
    labels: {k: "v$$"}
    annotations: {n: o}
    logging: {driver: json-file, options: {max-file: 3}}
    post_start: [{command: a b, environment: {X: y}}]
    develop: {watch: [{action: sync, path: ., target: /w, ignore: [n/]}, {action: sync+exec, path: e, target: /e,
              exec: {command: x}}]}
    cpuset: '0'
    cpu_quota: 5000
    memswap_limit: -1
    oom_score_adj: 0
    shm_size: 1g
    blkio_config: {weight: 100, device_write_iops: [{path: /dev/sda, rate: 5}], weight_device: [{path: /d, weight: 9}]}
    ulimits: {nofile: {soft: 1, hard: 2}}
    sysctls: {net.core.somaxconn: 5}
    cap_add: [ALL]
    read_only: true
    ipc: host
  db: {image: db, restart: 'no'}
  cache: {image: cache, network_mode: none}
networks:
  front: {driver: bridge, driver_opts: {o: 1}, ipam: {driver: default, config: [{subnet: 10.0.0.0/24, gateway: 10.0.0.1,
          aux_addresses: {a: 10.0.0.2}}]}, internal: true, enable_ipv6: false, labels: {a: b}}
  back: {external: true, name: there}
volumes: {data: {driver: local, driver_opts: {type: tmpfs}, labels: [x=y]}, out: {external: true}}
configs: {conf: {content: "a$${b}\\n"}}
secrets: {key: {environment: KEY}, file: {file: ./f}}
"""


def _same(project: Project) -> Project:
    return replace(project, files=(), warnings=())


@pytest.mark.parametrize("form", document.Format)
def test_the_document_of_a_project_is_that_project(project: Load, form: document.Format) -> None:
    first = project(_WHOLE, profiles=["p"])
    again = project({"again.yaml": document.text(first, form)}, ["again.yaml"], profiles=["p"])
    assert _same(again) == _same(first)
    assert document.text(again, form) == document.text(first, form)


def test_both_forms_of_the_document_say_the_same(project: Load) -> None:
    found = project(_WHOLE, profiles=["p"])
    tree = yaml_text.parse(document.text(found), file="f", directory="/")[0]
    data = json.loads(document.text(found, document.Format.JSON))
    assert list(tree.entries()) == list(data) == ["name", "services", "networks", "volumes", "configs", "secrets"]
    assert tree.at("services").at("web").text("image") == data["services"]["web"]["image"] == "web:$$1"


def test_services_that_are_not_active_are_not_in_the_document(project: Load) -> None:
    found = project(_WHOLE)
    services = document.document(found)["services"]
    assert isinstance(services, dict)
    assert list(services) == ["cache", "db"]
    named = document.document(found, ["db"])["services"]
    assert isinstance(named, dict)
    assert list(named) == ["db"]
    assert document.profiles(found) == ("p",)
