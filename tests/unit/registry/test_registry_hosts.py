"""Which hosts a registry's name means, and what the user has said about them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.registry.hosts import Endpoint, Proxies, Settings, endpoints, is_insecure, parse_settings
from lab.errors import SpecError


def test_docker_io_is_asked_at_its_own_host_after_its_mirrors() -> None:
    found = endpoints("docker.io", Settings(mirrors=("https://near.example/cache/", "http://127.0.0.1:5000")))
    assert [(each.host, each.schemes, each.prefix, each.is_mirror) for each in found] == [
        ("near.example", ("https",), "/cache", True),
        ("127.0.0.1:5000", ("http",), "", True),
        ("registry-1.docker.io", ("https",), "", False),
    ]
    assert found[-1].server == "https://index.docker.io/v1/"


def test_mirrors_stand_for_no_other_registry() -> None:
    found = endpoints("registry.example:5000", Settings(mirrors=("https://near.example",)))
    assert found == (Endpoint(host="registry.example:5000", server="registry.example:5000"),)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "a.localhost"]
)
def test_a_registry_on_loopback_may_be_insecure(host: str) -> None:
    assert is_insecure(host, Settings())
    assert endpoints(host, Settings())[-1].schemes == ("https", "http")


@pytest.mark.parametrize(
    ("said", "host", "meant"),
    [
        ("registry.example:5000", "registry.example:5000", True),
        ("registry.example:5000", "registry.example:5001", False),
        ("registry.example", "registry.example:5001", True),
        ("10.0.0.0/8", "10.2.3.4:5000", True),
        ("10.0.0.0/8", "11.2.3.4:5000", False),
        ("fd00::/8", "[fd00::1]:5000", True),
        ("10.0.0.0/8", "registry.example", False),
        ("not/a/network", "not", False),
    ],
)
def test_others_may_be_insecure_only_when_that_is_said(said: str, host: str, meant: bool) -> None:
    assert is_insecure(host, Settings(insecure=(said,))) is meant


def test_settings_have_the_keys_of_dockers_daemon() -> None:
    text = json.dumps({"registry-mirrors": ["https://m"], "insecure-registries": ["r:5000"], "timeout-seconds": 5})
    found = parse_settings(text.encode(), path="registries.json", certificates=("/certs",))
    assert found == Settings(mirrors=("https://m",), insecure=("r:5000",), certificates=("/certs",), timeout_s=5.0)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"registry-mirrors": "https://m"}',
        '{"registry-mirrors": ["m.example"]}',
        '{"registry-mirrors": ["https://user:secret@m.example"]}',
        '{"insecure-registries": [1]}',
        '{"timeout-seconds": 0}',
        '{"timeout-seconds": true}',
        '{"insecure-registry": []}',
    ],
)
def test_wrong_settings_are_refused_with_the_name_of_the_file(text: str) -> None:
    with pytest.raises(SpecError, match=r"^registries\.json: ") as caught:
        parse_settings(text.encode(), path="registries.json")
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "proxy"),
    [
        ("registry.example:5000", "http://proxy:3128"),
        ("localhost:5000", ""),
        ("127.0.0.1", ""),
        ("inner.example", ""),
        ("deep.inner.example", ""),
        ("notinner.example", "http://proxy:3128"),
        ("a.corp:443", ""),
        ("10.1.2.3", ""),
        ("exact.example:5000", ""),
        ("exact.example:5001", "http://proxy:3128"),
    ],
)
def test_a_proxy_is_used_but_where_no_proxy_names_the_host(host: str, proxy: str) -> None:
    proxies = Proxies(by_scheme={"https": "proxy:3128"}, no_proxy="inner.example, .corp,10.0.0.0/8,exact.example:5000")
    assert proxies.proxy("https", host) == proxy
    assert proxies.proxy("http", host) == ""


def test_no_proxy_star_means_every_host() -> None:
    assert Proxies(by_scheme={"https": "http://p"}, no_proxy="*").proxy("https", "any.example") == ""


@given(st.text())
def test_no_host_makes_the_decision_fail(host: str) -> None:
    is_insecure(host, Settings(insecure=("10.0.0.0/8", "a")))
    Proxies(by_scheme={"https": "http://p"}, no_proxy="a,.b").proxy("https", host)
