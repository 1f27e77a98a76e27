"""Filters of `ps`, and the ports that it shows, in docker's rules and words."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container import port_bindings, selection
from lab.container.port_bindings import ContainerPort, HostPort
from lab.container.selection import Listed
from lab.errors import ContainerError

WEB = Listed(
    id="a1" + "0" * 62,
    name="web",
    status="exited",
    created_ns=200,
    exit_code=3,
    has_run=True,
    labels={"tier": "front", "empty": ""},
    networks=("bridge",),
    volumes=("/srv/data", "/data"),
    exposed=frozenset((ContainerPort(number=80), ContainerPort(number=53, protocol="udp"))),
    published=frozenset((ContainerPort(number=80),)),
    is_of=lambda name: name == "nginx",
)


def holds(container: Listed, **filters: list[str]) -> bool:
    wanted = {name.replace("_", "-"): values for name, values in filters.items()}
    return all(each(container) for each in selection.conditions(wanted, {"old": 100, "new": 300}.__getitem__))


@pytest.mark.parametrize(
    ("name", "value", "is_there"),
    [
        ("id", "a1", True),
        ("id", "^10", False),
        ("name", "we", True),
        ("name", "^/web$", True),
        ("name", "^eb", False),
        ("label", "tier", True),
        ("label", "tier=front", True),
        ("label", "tier=back", False),
        ("label", "empty=", True),
        ("status", "exited", True),
        ("status", "running", False),
        ("exited", "3", True),
        ("exited", "0", False),
        ("before", "new", True),
        ("before", "old", False),
        ("since", "old", True),
        ("since", "new", False),
        ("health", "none", True),
        ("health", "healthy", False),
        ("ancestor", "nginx", True),
        ("ancestor", "busybox", False),
        ("network", "bridge", True),
        ("network", "brid", False),
        ("volume", "/srv/data", True),
        ("volume", "/data", True),
        ("volume", "/dat", False),
        ("expose", "80", True),
        ("expose", "50-60/udp", True),
        ("expose", "53", False),
        ("publish", "80/tcp", True),
        ("publish", "53/udp", False),
        ("is_task", "false", True),
        ("is_task", "true", False),
    ],
)
def test_each_filter_asks_for_what_its_name_says(name: str, value: str, is_there: bool) -> None:
    assert holds(WEB, **{name: [value]}) is is_there


def test_values_of_one_filter_are_alternatives_but_for_labels() -> None:
    assert holds(WEB, status=["running", "exited"])
    assert not holds(WEB, label=["tier", "none"])


def test_filters_of_different_names_have_all_to_hold() -> None:
    assert not holds(WEB, status=["exited"], name=["database"])


def test_an_exit_code_is_that_of_one_that_has_ended() -> None:
    assert not holds(dataclasses.replace(WEB, status="running"), exited=["3"])
    assert not holds(dataclasses.replace(WEB, has_run=False, status="created", exit_code=0), exited=["0"])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("status", "asleep", "Invalid filter 'status=asleep'"),
        ("health", "x", "Unrecognised filter value for health: x"),
        ("exited", "x", "Invalid filter 'exited=x'"),
        ("is_task", "x", r"Invalid filter 'is-task=\[x\]'"),
        ("publish", "http", "Invalid filter 'publish=http'"),
        ("name", "(", "Invalid filter 'name=\\('"),
    ],
)
def test_a_value_that_is_none_is_refused_in_dockers_words(name: str, value: str, message: str) -> None:
    with pytest.raises(ContainerError, match=message):
        holds(WEB, **{name: [value]})


@pytest.mark.parametrize(
    ("exposed", "publish", "shown"),
    [
        ([], [], ""),
        (["80"], [], "80/tcp"),
        (["80", "81", "82", "443", "53/udp"], [], "80-82/tcp, 443/tcp, 53/udp"),
        (["80"], ["8080:80"], "0.0.0.0:8080->80/tcp"),
        ([], ["127.0.0.1:8080:80", "[::1]:8080:80"], "127.0.0.1:8080->80/tcp, [::1]:8080->80/tcp"),
        ([], ["8000-8002:9000-9002"], "0.0.0.0:8000-8002->9000-9002/tcp"),
        (["443"], ["53:53/udp"], "443/tcp, 0.0.0.0:53->53/udp"),
    ],
)
def test_ports_are_shown_as_docker_shows_them(exposed: list[str], publish: list[str], shown: str) -> None:
    open_ports = [port for text in exposed for port in port_bindings.ports(text)]
    assert port_bindings.shown(open_ports, port_bindings.published(publish)) == shown


def test_a_published_port_says_where() -> None:
    assert port_bindings.published(["127.0.0.1:8080:80/udp", "81"]) == {
        ContainerPort(number=80, protocol="udp"): (HostPort(address="127.0.0.1", number=8080),),
        ContainerPort(number=81): (HostPort(address="", number=0),),
    }


@given(st.integers(1, 65000), st.integers(0, 20), st.sampled_from(("tcp", "udp")))
def test_a_range_has_all_its_ports(first: int, more: int, protocol: str) -> None:
    found = port_bindings.ports(f"{first}-{first + more}/{protocol}")
    assert [port.number for port in found] == list(range(first, first + more + 1))
    assert {port.protocol for port in found} == {protocol}
