"""A project of real containers comes up as its files say, follows them, and goes without a trace."""

from __future__ import annotations

import json

import pytest

from lab.container.volumes.store import VolumeStore

from .conftest import Stack

pytestmark = [pytest.mark.root, pytest.mark.needs("overlay"), pytest.mark.needs("dnsmasq")]

SHOP = """
x-quick: &quick {image: busybox, stop_signal: SIGKILL}
services:
  db:
    <<: *quick
    command: sh -c 'touch /ready; exec sleep 1000'
    healthcheck: {test: [CMD, test, -e, /ready], interval: 1s, start_interval: 1s, start_period: 5s}
    volumes: [data:/data]
  api:
    <<: *quick
    command: sh -c 'echo serving $$GREETING; exec httpd -f -p 80 -h /etc'
    environment: {GREETING: "${GREETING:-hello}"}
    depends_on: {db: {condition: service_healthy}}
  web:
    <<: *quick
    command: sleep 1000
    depends_on: [api]
  tool:
    <<: *quick
    profiles: [tools]
    command: echo tool
volumes: {data: {}}
"""
UP = {"shop-api-1", "shop-db-1", "shop-web-1"}


def test_a_project_comes_up_is_used_changes_and_goes(stack: Stack) -> None:
    stack.write(SHOP)
    told = stack("up", "-d")
    assert told.code == 0, told
    words = [line.strip() for line in told.err.splitlines()]
    order = ["Network shop_default  Created", "Container shop-db-1  Healthy", "Container shop-api-1  Started"]
    assert [line for line in words if line in order] == order
    before = stack.ids()
    assert before.keys() == UP

    assert stack.ok("logs", "--no-color") == "api-1  | serving hello"
    assert stack.ok("exec", "-T", "web", "wget", "-qO-", "http://api/hostname") == before["shop-api-1"][:12]
    assert stack.ok("run", "--rm", "-T", "web", "wget", "-qO-", "http://shop-api-1/hostname")
    assert stack.ok("run", "--rm", "-T", "tool") == "tool"
    assert stack("exec", "-T", "web", "sh", "-c", "exit 7").code == 7

    again = stack("up", "-d")
    assert sorted(again.err.split()) == sorted(" ".join(f"Container {name} Running" for name in UP).split())
    assert stack.ids() == before

    stack.ok("up", "-d", environment={"GREETING": "other"})
    after = stack.ids()
    assert {name for name in after if after[name] != before[name]} == {"shop-api-1"}
    rows = [json.loads(line) for line in stack.ok("ps", "--format", "json").splitlines()]
    assert {row["Service"]: (row["State"], row["Health"]) for row in rows} == {
        "db": ("running", "healthy"),
        "api": ("running", ""),
        "web": ("running", ""),
    }
    assert json.loads(stack.ok("ls", "--format", "json")) == [
        {"Name": "shop", "Status": "running(3)", "ConfigFiles": str(stack.directory / "compose.yaml")}
    ]


FILES = """
services:
  web:
    image: busybox
    stop_signal: SIGKILL
    command: sleep 1000
    volumes: [/kept]
    secrets: [token, {source: file, target: named, mode: 0400}]
    configs: [{source: motd, target: /etc/motd}]
    labels: {version: "${VERSION:-1}"}
secrets: {token: {environment: TOKEN}, file: {file: ./file}}
configs: {motd: {content: "hello\\n"}}
"""


def test_secrets_and_configs_are_files_and_anonymous_volumes_outlive_a_new_container(stack: Stack) -> None:
    stack.write(FILES)
    stack.write("from a file", "file")
    stack.ok("up", "-d", environment={"TOKEN": "t0ken"})
    shown = (
        "cat /run/secrets/token /run/secrets/named /etc/motd; stat -c %a /run/secrets/named; touch /run/secrets/token"
    )
    assert stack("exec", "-T", "web", "sh", "-c", shown).out == "t0kenfrom a filehello\n400\n"
    stack.ok("exec", "-T", "web", "touch", "/kept/file")
    before = stack.ids()
    stack.ok("up", "-d", environment={"TOKEN": "other"})
    assert stack.ids() != before
    assert stack.ok("exec", "-T", "web", "cat", "/run/secrets/token", "/kept/file") == "other"
    stack.ok("up", "-d", "-V", environment={"TOKEN": "other", "VERSION": "2"})
    assert stack("exec", "-T", "web", "cat", "/kept/file").code == 1
    assert len(VolumeStore(stack.lab.paths).all()) == 1


SCALED = """
services:
  web: {image: busybox, stop_signal: SIGKILL, command: sleep 1000}
  old: {image: busybox, stop_signal: SIGKILL, command: sleep 1000}
"""


def test_services_grow_shrink_restart_and_what_the_files_forget_is_told_of(stack: Stack) -> None:
    stack.write(SCALED)
    stack.ok("up", "-d", "--scale", "web=3")
    before = stack.ids()
    assert before.keys() == {"shop-web-1", "shop-web-2", "shop-web-3", "shop-old-1"}
    stack.write(SCALED.replace("  old: ", "x-old: "))
    shrunk = stack("up", "-d")
    assert "Found orphan containers ([shop-old-1]) for this project." in shrunk.err
    assert stack.ids().keys() == {"shop-web-1", "shop-old-1"}
    stack.ok("restart")
    stack.ok("stop", "-t", "0")
    assert stack.statuses() == {"shop-web-1": "exited", "shop-old-1": "running"}
    stack.ok("start")
    assert stack.statuses()["shop-web-1"] == "running"
    stack.ok("up", "-d", "--remove-orphans")
    assert stack.ids() == {"shop-web-1": before["shop-web-1"]}


def test_a_dependency_that_fails_keeps_others_from_starting(stack: Stack) -> None:
    stack.write("""
services:
  db:
    image: busybox
    stop_signal: SIGKILL
    command: sleep 1000
    healthcheck: {test: ["CMD", "false"], interval: 100ms, retries: 1}
  job: {image: busybox, command: sh -c 'exit 3'}
  web: {image: busybox, depends_on: {db: {condition: service_healthy}}}
  late: {image: busybox, depends_on: {job: {condition: service_completed_successfully}}}
""")
    failed = stack("up", "-d", "web")
    assert (failed.code, "dependency failed to start: container shop-db-1 is unhealthy" in failed.err) == (1, True)
    failed = stack("up", "-d", "late")
    assert (failed.code, 'service "job" didn\'t complete successfully: exit 3' in failed.err) == (1, True)
    assert stack.statuses()["shop-web-1"] == stack.statuses()["shop-late-1"] == "created"
    unknown = stack("up", "-d", "wbe")
    assert (unknown.code, "no such service: wbe" in unknown.err) == (1, True)
