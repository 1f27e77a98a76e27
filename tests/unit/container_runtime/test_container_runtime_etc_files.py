"""A container's hosts, hostname and resolv.conf, as docker writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container import etc_files
from lab.container.etc_files import ResolverConfig
from lab.errors import SpecError


def test_hosts_has_the_usual_lines_then_the_added_then_the_containers_own() -> None:
    text = etc_files.hosts(("172.30.0.2",), ("web.example.org", "web"), (("db", "10.0.0.1"),))
    assert text.splitlines()[0] == "127.0.0.1\tlocalhost"
    assert text.splitlines()[-2:] == ["10.0.0.1\tdb", "172.30.0.2\tweb.example.org web"]
    assert text.endswith("\n")


@pytest.mark.parametrize(
    ("host", "domain", "names"),
    [
        ("web", "", ("web",)),
        ("web", "example.org", ("web.example.org", "web")),
        ("web.example.org", "", ("web.example.org", "web")),
    ],
)
def test_a_container_knows_its_name_with_and_without_domain(host: str, domain: str, names: tuple[str, ...]) -> None:
    assert etc_files.own_names(host, domain) == names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db:10.0.0.1", ("db", "10.0.0.1")),
        ("db=10.0.0.1", ("db", "10.0.0.1")),
        ("db:::1", ("db", "::1")),
        ("db=[::1]", ("db", "::1")),
        ("host.docker.internal:host-gateway", ("host.docker.internal", "172.30.0.1")),
    ],
)
def test_an_added_host_is_a_name_and_an_address(text: str, expected: tuple[str, str]) -> None:
    assert etc_files.extra_host(text, gateway="172.30.0.1") == expected


@pytest.mark.parametrize(
    ("text", "message"), [("db", "bad format for add-host"), ("db:x", "invalid IP address in add-host")]
)
def test_what_is_no_added_host_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        etc_files.extra_host(text, gateway="")


HOST = etc_files.parse_resolver(
    "# a comment\nnameserver 127.0.0.53\nnameserver 10.0.0.3 # inner\nsearch a.org\nsearch b.org c.org\noptions edns0\n"
)


def test_the_hosts_resolver_is_read_as_resolvers_read_it() -> None:
    assert ResolverConfig(nameservers=("127.0.0.53", "10.0.0.3"), search=("b.org", "c.org"), options=("edns0",)) == HOST


def test_a_server_on_the_hosts_loopback_is_left_out_for_a_network() -> None:
    found = etc_files.resolver_for_network(HOST, ResolverConfig())
    assert etc_files.resolv_conf(found) == "nameserver 10.0.0.3\nsearch b.org c.org\noptions edns0\n"


def test_without_a_reachable_server_dockers_are_asked() -> None:
    found = etc_files.resolver_for_network(ResolverConfig(nameservers=("::1",)), ResolverConfig())
    assert found.nameservers == etc_files.FALLBACK_NAMESERVERS


def test_on_the_hosts_network_the_hosts_servers_are_asked() -> None:
    assert etc_files.resolver_for_host(HOST, ResolverConfig()) == HOST


def test_what_the_user_wants_goes_first_and_a_dot_is_no_search() -> None:
    wanted = ResolverConfig(nameservers=("1.1.1.1",), search=(".",), options=("ndots:2",))
    found = etc_files.resolver_for_network(HOST, wanted)
    assert etc_files.resolv_conf(found) == "nameserver 1.1.1.1\noptions ndots:2\n"


def test_a_destination_that_the_user_covers_is_left_to_the_user() -> None:
    found = {mount.destination: mount.source for mount in etc_files.mounts("/b", taken=("/etc/hosts",))}
    assert found == {"/etc/hostname": "/b/hostname", "/etc/resolv.conf": "/b/resolv.conf"}


@given(st.text())
def test_any_resolver_file_is_read_and_what_is_written_is_read_the_same(text: str) -> None:
    found = etc_files.resolver_for_network(etc_files.parse_resolver(text), ResolverConfig())
    assert etc_files.parse_resolver(etc_files.resolv_conf(found)) == found
