"""docker-compose and the lab read the same files: what `docker-compose config` writes is the same project to us.

The document that docker-compose 1.29 writes has its files merged, extended and with their variables replaced, but much
of it in short forms. So it is read by us once more, and has to be the project that we read from the files themselves.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from lab.compose import document
from lab.compose.load import load
from lab.linux import command

pytestmark = pytest.mark.needs("docker-compose")

_ENVIRONMENT = {"OUT": "out", "EMPTY": ""}

Files = Mapping[str, str]

_CASES: Mapping[str, tuple[Files, Sequence[str]]] = {
    "forms of a service": (
        {
            "compose.yaml": """
                services:
                  web:
                    build: {context: web, dockerfile: D, args: [A=1, OUT], target: t, labels: {a: b}}
                    image: web
                    command: echo "a b" $$HOME 'c $$d'
                    entrypoint: [/run.sh, -x]
                    ports: ['8080:80', '127.0.0.1:9000-9001:9000-9001/udp', 22, '5', {target: 5, published: 6}]
                    expose: ['70', 71]
                    volumes: ['.:/src:ro', '../up:/up', 'data:/var', /anon, {type: bind, source: ./b, target: /b},
                              {type: tmpfs, target: /t, tmpfs: {size: 1024}}]
                    environment: [A=1, OUT, NONE, 'E=x=y']
                    depends_on: {db: {condition: service_healthy}}
                    healthcheck: {test: exit 0, interval: 1m30s, timeout: 5s, retries: 3, start_period: 1s}
                    networks: {front: {aliases: [x, y], ipv4_address: 10.9.0.2}, back: }
                    mem_limit: 512m
                    cpus: 0.5
                    ulimits: {nofile: 5, nproc: {soft: 1, hard: 2}}
                    extra_hosts: ['a:1.2.3.4']
                    stop_grace_period: 1m
                    restart: on-failure:3
                    logging: {driver: json-file, options: {max-size: 1m}}
                    tty: true
                    labels: [a=b, c]
                    sysctls: {net.core.somaxconn: 5}
                    tmpfs: /x
                    dns: 1.1.1.1
                    cap_add: [NET_ADMIN]
                    deploy: {replicas: 2, resources: {reservations: {memory: 20m}}}
                    secrets: [key, {source: key, target: other, mode: 0400}]
                    configs: [{source: conf, target: /c}]
                  db: {image: db, network_mode: none, healthcheck: {disable: true}}
                volumes: {data: {driver: local, driver_opts: {type: tmpfs}}, out: {external: true, name: there}}
                networks: {front: {ipam: {config: [{subnet: 10.9.0.0/24}]}}, back: {internal: true}}
                secrets: {key: {file: ./key}}
                configs: {conf: {file: ./conf}}
                """,
            "web/D": "FROM scratch\n",
        },
        ["compose.yaml"],
    ),
    "variables": (
        {
            ".env": "TAG=7\nQUOTED='a b'\n",
            "compose.yaml": """
                services:
                  web:
                    image: 'web:${TAG}-$OUT-${NONE:-none}-${EMPTY:-empty}-${EMPTY-kept}'
                    environment: {A: $$literal, B: '${QUOTED}', C: "${OUT:?needed}"}
                    privileged: '${YES:-true}'
                    mem_limit: '${SIZE:-64m}'
                """,
        },
        ["compose.yaml"],
    ),
    "files over files": (
        {
            "a.yaml": """
                services:
                  web: {image: a, command: [x, y], environment: {A: 1, B: 1}, ports: ['80'], dns: 1.1.1.1,
                        volumes: ['data:/x', '/y'], expose: ['1'], labels: {a: 1}, tmpfs: /a}
                volumes: {data: , other: }
                """,
            "b.yaml": """
                services:
                  web: {image: b, command: z, environment: [B=2, C=3], ports: ['81:81'], dns: [2.2.2.2],
                        volumes: ['other:/x:ro'], expose: ['2'], labels: [b=2], tmpfs: [/b]}
                  more: {image: more}
                networks: {default: {driver_opts: {a: b}}}
                """,
        },
        ["a.yaml", "b.yaml"],
    ),
    "extended services": (
        {
            "compose.yaml": """
                services:
                  base: {image: base, environment: {A: base, B: base}, command: [x]}
                  web: {extends: {service: base}, environment: {B: web}}
                  far: {extends: {service: far, file: sub/other.yaml}, tty: true}
                """,
            "sub/other.yaml": """
                services:
                  far: {build: ., env_file: far.env, volumes: ['./data:/data']}
                """,
            "sub/far.env": "F=1\n",
        },
        ["compose.yaml"],
    ),
    "anchors, merge keys and extensions": (
        {
            "compose.yaml": """
                x-common: &common
                  restart: always
                  environment: &env {A: '1'}
                services:
                  web: {<<: *common, image: web}
                  db: {<<: *common, image: db, environment: {<<: *env, B: '2'}}
                """
        },
        ["compose.yaml"],
    ),
    "a file of version 2": (
        {
            "compose.yaml": """
                version: '2.4'
                services:
                  web: {image: web, links: ['db:store'], volumes_from: ['db:ro'], mem_limit: 64m, cpu_shares: 5,
                        shm_size: 1m, pids_limit: 7, init: true, scale: 2, mem_swappiness: 10, oom_score_adj: 5,
                        group_add: [mail], cpuset: '0', memswap_limit: 128m, network_mode: bridge}
                  db: {image: db, network_mode: bridge, stop_signal: SIGINT, pid: host, security_opt: ['label:x']}
                """
        },
        ["compose.yaml"],
    ),
    "a file of version 3": (
        {
            "compose.yaml": """
                version: '3.8'
                services:
                  web:
                    image: web
                    env_file: [a.env, b.env]
                    environment: {A: own}
                    deploy: {mode: replicated, replicas: 1, restart_policy: {condition: on-failure, max_attempts: 2},
                             update_config: {parallelism: 1}, placement: {constraints: [node.role == manager]}}
                """,
            "a.env": "A=a\nB=a\n# comment\n\nC=x y\n",
            "b.env": "B=b\n",
        },
        ["compose.yaml"],
    ),
}


@pytest.mark.parametrize("case", _CASES)
def test_files_are_the_project_that_docker_compose_makes_of_them(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, paths = _CASES[case]
    directory = tmp_path / "app"
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(textwrap.dedent(text))
    monkeypatch.chdir(directory)
    theirs = command.run(
        ["docker-compose", *(word for path in paths for word in ("-f", path)), "config"],
        env={**_ENVIRONMENT, "PATH": "/usr/bin:/bin"},
    )
    assert theirs.exit_code == 0, theirs.error_text
    (directory / "theirs.yaml").write_text(theirs.stdout.decode())
    assert _document(["theirs.yaml"]) == _document(paths)


def _document(paths: Sequence[str]) -> object:
    return json.loads(document.text(load(paths, environment=_ENVIRONMENT), document.Format.JSON))
