"""The document of a container's creation becomes the options that the command line's flags become."""

from __future__ import annotations

import argparse
import json

import pytest

from lab.api.create_body import mount_text, options_of, restart_policy
from lab.cli.main import verb_parser
from lab.cli.run_flags import options_of as options_of_flags
from lab.container import linking
from lab.container.network.model import Endpoint
from lab.container.options.mounts import requests
from lab.container.options.run import RunOptions
from lab.errors import SpecError


def flags(*words: str) -> RunOptions:
    parser, _ = verb_parser("container", "create", prog="lab create")
    parsed = parser.parse_args(list(words))
    assert isinstance(parsed, argparse.Namespace)
    return options_of_flags(parsed)


EQUAL = [
    (("busybox",), {"Image": "busybox"}),
    (("-it", "busybox", "sh", "-c", "x"), {"Tty": True, "OpenStdin": True, "Cmd": ["sh", "-c", "x"]}),
    (("--entrypoint", "", "busybox", "a"), {"Entrypoint": [""], "Cmd": ["a"]}),
    (("-e", "A=b", "-l", "k=v", "busybox"), {"Env": ["A=b"], "Labels": {"k": "v"}}),
    (("-u", "1:2", "-w", "/x", "busybox"), {"User": "1:2", "WorkingDir": "/x"}),
    (("--rm", "--init", "busybox"), {"HostConfig": {"AutoRemove": True, "Init": True}}),
    (
        ("--restart", "on-failure:3", "busybox"),
        {"HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}},
    ),
    (
        ("-m", "64m", "--cpus", "1.5", "--pids-limit", "9", "busybox"),
        {"HostConfig": {"Memory": 64 << 20, "NanoCpus": 1_500_000_000, "PidsLimit": 9}},
    ),
    (("--memory-swap", "-1", "busybox"), {"HostConfig": {"MemorySwap": -1, "MemorySwappiness": -1}}),
    (
        ("-p", "127.0.0.1:8080:80/tcp", "-p", "53/udp", "busybox"),
        {
            "HostConfig": {
                "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "53/udp": [{"HostPort": ""}]}
            }
        },
    ),
    (
        ("--ulimit", "nofile=10:20", "busybox"),
        {"HostConfig": {"Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}]}},
    ),
    (("-v", "/a:/b:ro", "-v", "/c", "busybox"), {"HostConfig": {"Binds": ["/a:/b:ro"]}, "Volumes": {"/c": {}}}),
    (("--tmpfs", "/t:size=1m", "--tmpfs", "/u", "busybox"), {"HostConfig": {"Tmpfs": {"/t": "size=1m", "/u": ""}}}),
    (
        ("--device", "/dev/null:/dev/x:r", "busybox"),
        {
            "HostConfig": {
                "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}]
            }
        },
    ),
    (("--network", "none", "busybox"), {"HostConfig": {"NetworkMode": "none"}}),
    (
        ("--stop-timeout", "0", "--stop-signal", "INT", "busybox"),
        {"StopTimeout": 0, "StopSignal": "INT", "HostConfig": {"NetworkMode": "default"}},
    ),
    (
        ("--health-cmd", "true", "--health-retries", "2", "busybox"),
        {"Healthcheck": {"Test": ["CMD-SHELL", "true"], "Retries": 2, "Interval": 0}},
    ),
    (
        ("--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--read-only", "busybox"),
        {"HostConfig": {"CapAdd": ["ALL"], "SecurityOpt": ["seccomp=unconfined"], "ReadonlyRootfs": True}},
    ),
]


@pytest.mark.parametrize(
    ("words", "body"), EQUAL, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_a_document_and_flags_ask_for_the_same(words: tuple[str, ...], body: dict[str, object]) -> None:
    asked, wanted = options_of({"Image": "busybox", **body}), flags(*words)
    if not body.get("HostConfig", {}).get("NetworkMode"):  # type: ignore[attr-defined] # an object
        assert asked.network == "bridge"
    differing = {
        name: (getattr(asked, name), getattr(wanted, name))
        for name in RunOptions.__slots__
        if getattr(asked, name) != getattr(wanted, name) and name != "endpoints"
    }
    assert differing == {}


def test_networks_come_with_what_is_asked_for_there_and_the_mode_first() -> None:
    body = {
        "Image": "x",
        "HostConfig": {"NetworkMode": "front"},
        "NetworkingConfig": {
            "EndpointsConfig": {
                "back": {"Aliases": ["b"]},
                "front": {"IPAMConfig": {"IPv4Address": "10.1.0.9"}, "Aliases": None},
            }
        },
    }
    asked = options_of(body)
    assert asked.endpoints == (Endpoint(network="front", address="10.1.0.9"), Endpoint(network="back", aliases=("b",)))
    assert asked.network == "front"


def test_mounts_become_texts_that_the_engine_reads_back() -> None:
    document = {
        "Type": "volume",
        "Source": "data",
        "Target": "/a,b",
        "ReadOnly": True,
        "VolumeOptions": {"NoCopy": True, "Labels": {"k": "v,w"}},
    }
    (found,) = requests((), (mount_text(document),), ())
    assert (found.source, found.destination, found.writable, found.copies) == ("data", "/a,b", False, False)
    assert found.labels == {"k": "v,w"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "config cannot be empty"),
        ({"Image": "x", "Cmd": [1]}, "Cmd: a list of texts"),
        ({"Image": "x", "Tty": "yes"}, "Tty: bool is expected"),
        ({"Image": "x", "HostConfig": {"Memory": True}}, "Memory: int is expected"),
        ({"Image": "x", "HostConfig": {"Links": "db", "Dns": 1}}, "Dns: list is expected"),
        ({"Image": "x", "HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}}, "AutoRemove"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(body: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        options_of(json.loads(json.dumps(body)))


def test_only_some_policies_count() -> None:
    assert restart_policy({}) == ("no", 0)
    with pytest.raises(SpecError, match="cannot be used with"):
        restart_policy({"Name": "always", "MaximumRetryCount": 2})


def test_links_are_the_first_networks_wherever_they_are_said() -> None:
    endpoints = {"net": {"Links": ["db:data"]}, "other": {}}
    host = {"NetworkMode": "net", "Links": ["db:data", "/cache"]}
    options = options_of({"Image": "x", "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints}})
    assert [(each.network, each.links) for each in options.endpoints] == [("net", ("db:data", "/cache")), ("other", ())]
    assert [linking.parsed(link) for link in options.endpoints[0].links] == [("db", "data"), ("cache", "cache")]


@pytest.mark.parametrize("text", ["", ":a", "a:", "a:b:c"])
def test_what_is_no_link_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="bad format for links"):
        linking.parsed(text)
