"""What a container shares with the host or another container, by docker's flags."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from lab.container.defaults import ContainerNetwork
from lab.container.options.names import etc_content
from lab.container.options.run import RunOptions
from lab.container.options.sharing import Sharing, sharing, with_ids
from lab.errors import SpecError

OPTIONS = RunOptions(image="busybox")


def _missing(path: str) -> str:
    raise FileNotFoundError(2, "no such file", path)


def _shared(**changes: object) -> Sharing:
    return sharing(replace(OPTIONS, **changes), read=_missing, rootless=False)  # type: ignore[arg-type]


def test_without_flags_all_is_the_containers_own() -> None:
    found = _shared()
    assert {found.pid, found.ipc, found.uts, found.cgroupns, found.network_namespace} == {"private"}
    assert found.network == ContainerNetwork.BRIDGE
    assert (found.hostname, found.users.uid_mappings, found.warnings) == ("", (), ())


@pytest.mark.parametrize("mode", ["pid", "ipc", "uts", "cgroupns"])
def test_a_namespace_can_be_the_hosts(mode: str) -> None:
    assert getattr(_shared(**{mode: "host"}), mode) == "host"


def test_shareable_shared_memory_is_what_all_have() -> None:
    assert _shared(ipc="shareable").ipc == "private"
    assert _shared(ipc="none").ipc == "none"


def test_on_the_hosts_network_a_container_has_the_hosts_name_unless_it_has_its_own() -> None:
    found = _shared(network="host")
    assert (found.network, found.network_namespace) == (ContainerNetwork.NONE, "host")
    assert found.hostname == os.uname().nodename
    assert _shared(network="host", hostname="web").hostname == "web"


def test_containers_to_join_are_named_by_id_once_found() -> None:
    options = with_ids(
        replace(OPTIONS, pid="container:web", network="container:db", ipc="host"), {"web": "1", "db": "2"}.__getitem__
    )
    assert (options.pid, options.network, options.ipc) == ("container:1", "container:2", "host")
    found = sharing(options, read=_missing, rootless=False)
    assert (found.pid, found.network_namespace) == ("container:1", "container:2")


def test_users_of_its_own_are_taken_from_a_free_range() -> None:
    assert _shared(userns="private").users.uid_mappings[0].host_id == 100_000


def test_an_ordinary_user_is_told_of_the_network_that_there_is_not() -> None:
    found = sharing(OPTIONS, read=_missing, rootless=True)
    assert found.network == ContainerNetwork.NONE
    assert "--network host" in found.warnings[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pid": "nonsense"}, "--pid: invalid PID mode"),
        ({"pid": "container:"}, "--pid: invalid PID mode"),
        ({"uts": "container:x"}, "--uts: invalid UTS mode"),
        ({"cgroupns": "none"}, "--cgroupns: invalid CGROUP mode"),
        ({"userns": "nomap"}, "--userns: invalid USER mode"),
        ({"uts": "host", "hostname": "web"}, "conflicting options: hostname and the UTS mode"),
        ({"network": "container:x", "hostname": "web"}, "conflicting options: hostname and the network mode"),
        ({"privileged": True, "userns": "private"}, "privileged mode is incompatible with user namespaces"),
    ],
)
def test_what_cannot_be_is_refused_in_dockers_words(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        _shared(**changes)


HOST_FILES = {"/etc/hosts": "127.0.0.1\tlocalhost\n", "/etc/resolv.conf": "nameserver 127.0.0.53\nsearch a.org\n"}


def _etc(**changes: object) -> dict[str, str]:
    options = replace(OPTIONS, **changes)  # type: ignore[arg-type]
    return dict(
        etc_content(
            options, "0123456789abcdef", read=HOST_FILES.__getitem__, addresses=("10.0.0.2",), gateway="10.0.0.1"
        )
    )


def test_the_etc_files_name_the_container_and_what_the_user_adds() -> None:
    found = _etc(add_hosts=("host.docker.internal:host-gateway",), dns=("1.1.1.1",))
    assert found["hostname"] == "0123456789ab\n"
    assert found["hosts"].endswith("10.0.0.1\thost.docker.internal\n10.0.0.2\t0123456789ab\n")
    assert found["resolv.conf"] == "nameserver 1.1.1.1\nsearch a.org\n"


def test_on_the_hosts_network_they_are_the_hosts() -> None:
    found = _etc(network="host", add_hosts=("db:10.0.0.9",))
    assert found["hosts"] == "127.0.0.1\tlocalhost\n10.0.0.9\tdb\n"
    assert found["resolv.conf"] == HOST_FILES["/etc/resolv.conf"]
    assert found["hostname"] == os.uname().nodename + "\n"
