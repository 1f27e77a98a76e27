"""One file over another: what is merged, appended, replaced, reset."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.compose import schema
from lab.compose.merge import merge, settle
from lab.compose.model import Link, Port, Service, ServiceNetwork, Ulimit
from lab.compose.tree import Node, Place, planted
from lab.compose.yaml_text import dump, parse

from .conftest import Load

_DB = "  db: {image: db}\nvolumes: {data: , other: }\nnetworks: {front: , back: }\n"


def _merged(project: Load, base: str, over: str) -> Service:
    files = {"a.yaml": f"services:\n  web: {base}\n{_DB}", "b.yaml": f"services:\n  web: {over}\n"}
    return project(files, ["a.yaml", "b.yaml"]).services["web"]


@pytest.mark.parametrize(
    ("base", "over", "field", "value"),
    [
        ("{image: a}", "{image: b}", "image", "b"),
        ("{image: a}", "{tty: true}", "image", "a"),
        ("{image: a, command: [x, y]}", "{command: z}", "command", ("z",)),
        ("{image: a, entrypoint: [x, y]}", "{entrypoint: []}", "entrypoint", ()),
        ("{image: a, command: [x, y]}", "{command: }", "command", None),
        ("{image: a, environment: [A=1, B=1]}", "{environment: {B: 2, C: 2}}", "environment",
         {"A": "1", "B": "2", "C": "2"}),
        ("{image: a, labels: {x: 1}}", "{labels: [y=2]}", "labels", {"x": "1", "y": "2"}),
        ("{image: a, dns: 1.1.1.1}", "{dns: [2.2.2.2, 1.1.1.1]}", "dns", ("1.1.1.1", "2.2.2.2")),
        ("{image: a, expose: [80]}", "{expose: ['80', 81]}", "expose", ("80", "81")),
        ("{image: a, cap_add: [A]}", "{cap_add: [B]}", "cap_add", ("A", "B")),
        ("{image: a, tmpfs: /a}", "{tmpfs: /b}", "tmpfs", ("/a", "/b")),
        ("{image: a, links: [db]}", "{links: ['db:x']}", "links",
         (Link(service="db", alias="db"), Link(service="db", alias="x"))),
        ("{image: a, ulimits: {nofile: {soft: 1, hard: 2}}}", "{ulimits: {nofile: 3}}", "ulimits",
         {"nofile": Ulimit(soft=3, hard=3)}),
        ("{image: a, networks: [front]}", "{networks: {front: {aliases: [x]}, back: }}", "networks",
         {"front": ServiceNetwork(aliases=("x",)), "back": ServiceNetwork()}),
        ("{image: a, extra_hosts: ['h:1.1.1.1']}", "{extra_hosts: {h: 2.2.2.2}}", "extra_hosts",
         ("h:1.1.1.1", "h:2.2.2.2")),
        ("{image: a, ports: [80]}", "{ports: ['80/udp']}", "ports", (Port(target=80), Port(target=80, protocol="udp"))),
        ("{image: a, ports: ['1:80']}", "{ports: [{target: 80, published: 1}]}", "ports",
         (Port(target=80, published_first=1, published_last=1),)),
        ("{image: a, ports: ['1:80']}", "{ports: !override ['2:80']}", "ports",
         (Port(target=80, published_first=2, published_last=2),)),
        ("{image: a, ports: ['1:80']}", "{ports: !reset []}", "ports", ()),
        ("{image: a, command: x}", "{command: !reset null}", "command", None),
        ("{image: a, environment: {A: 1, B: 1}}", "{environment: {A: !reset null}}", "environment", {"B": "1"}),
        ("{image: a, environment: {A: 1, B: 1}}", "{environment: !override {C: 1}}", "environment", {"C": "1"}),
    ],
)  # fmt: skip
def test_over_a_service_comes(project: Load, base: str, over: str, field: str, value: object) -> None:
    assert getattr(_merged(project, base, over), field) == value


def test_a_mount_takes_the_place_of_one_at_the_same_path(project: Load) -> None:
    found = _merged(project, "{image: a, volumes: ['data:/x', '/y']}", "{volumes: ['other:/x/:ro', '/src:/z']}")
    assert [(each.source, each.target) for each in found.volumes] == [("other", "/x"), ("", "/y"), ("/src", "/z")]
    assert found.volumes[0].read_only


def test_a_build_is_merged_with_a_build_in_short_form(project: Load) -> None:
    found = _merged(project, "{build: ./web}", "{build: {target: dev, args: [A=1]}}").build
    assert found is not None
    assert found.context.endswith("/app/web")
    assert (found.target, found.args) == ("dev", {"A": "1"})


def test_secrets_of_a_build_are_the_same_by_their_id(project: Load) -> None:
    top = "secrets: {a: {content: x}, b: {content: x}}\n"
    files = {
        "a.yaml": "services: {web: {build: {context: ., secrets: [a, {source: a, target: t}]}}}\n" + top,
        "b.yaml": "services: {web: {build: {secrets: [{source: b, target: t}]}}}\n",
    }
    build = project(files, ["a.yaml", "b.yaml"]).services["web"].build
    assert build is not None
    assert [(each.source, each.target) for each in build.secrets] == [("a", "a"), ("b", "t")]


def test_options_of_logging_are_merged_for_one_driver_only(project: Load) -> None:
    base = "{image: a, logging: {driver: json-file, options: {max-file: '3'}}}"
    same = _merged(project, base, "{logging: {options: {max-size: 1m}}}").logging
    other = _merged(project, base, "{logging: {driver: local, options: {max-size: 1m}}}").logging
    assert same is not None
    assert other is not None
    assert (same.driver, same.options) == ("json-file", {"max-file": "3", "max-size": "1m"})
    assert (other.driver, other.options) == ("local", {"max-size": "1m"})


def test_networks_volumes_and_names_are_merged(project: Load) -> None:
    pools = "{{internal: true, ipam: {{config: [{{subnet: 10.{}.0.0/16}}]}}}}"
    found = project(
        {
            "a.yaml": f"name: one\nservices: {{web: {{image: x}}}}\nnetworks: {{n: {pools.format(1)}}}",
            "b.yaml": f"name: two\nnetworks: {{n: {pools.format(2)}}}",
        },
        ["a.yaml", "b.yaml"],
    )
    assert (found.name, found.networks["n"].name, found.networks["n"].internal) == ("two", "two_n", True)
    assert [pool.subnet for pool in found.networks["n"].ipam_pools] == ["10.1.0.0/16", "10.2.0.0/16"]


def test_a_whole_service_can_be_reset(project: Load) -> None:
    files = {"a.yaml": "services: {a: {image: a}, b: {image: b}}", "b.yaml": "services: {b: !reset null}"}
    assert list(project(files, ["a.yaml", "b.yaml"]).services) == ["a"]


def test_documents_of_one_file_are_merged_as_files_are(project: Load) -> None:
    found = project("services: {a: {image: a, dns: 1.1.1.1}}\n---\nservices: {a: {image: b, dns: 2.2.2.2}}\n")
    assert (found.services["a"].image, found.services["a"].dns) == ("b", ("1.1.1.1", "2.2.2.2"))


_WORD = st.text(alphabet="abc", min_size=1, max_size=3)
_SERVICE = st.fixed_dictionaries(
    {},
    optional={
        "image": _WORD,
        "command": st.lists(_WORD),
        "environment": st.dictionaries(_WORD, _WORD),
        "dns": st.lists(_WORD),
        "ports": st.lists(st.integers(1, 9)),
        "volumes": st.lists(_WORD.map(lambda name: f"data:/{name}")),
        "networks": st.dictionaries(_WORD, st.fixed_dictionaries({}, optional={"aliases": st.lists(_WORD)})),
    },
)
_FILE = st.dictionaries(_WORD, _SERVICE, max_size=3).map(lambda services: {"services": services})


def _uniform(data: object) -> Node:
    return schema.FILE.read(parse(dump(data), file="f", directory="/")[0], "")


def _plain(node: Node) -> object:
    if isinstance(node.value, dict):
        return {key: _plain(each) for key, each in node.value.items()}
    return [_plain(each) for each in node.value] if isinstance(node.value, list) else node.value


@settings(max_examples=30)  # each reads three files
@given(first=_FILE, second=_FILE, third=_FILE)
def test_it_does_not_matter_which_files_are_merged_first(first: object, second: object, third: object) -> None:
    one, two, three = (settle(_uniform(each)) for each in (first, second, third))
    assert _plain(merge(merge(one, two), three)) == _plain(merge(one, merge(two, three)))


@settings(max_examples=30)
@given(data=_FILE)
def test_a_file_over_itself_and_over_nothing_is_itself(data: object) -> None:
    tree = settle(_uniform(data))
    nothing = planted({}, Node(value=None, place=Place(file="f", line=1, directory="/")))
    assert _plain(merge(tree, tree)) == _plain(merge(nothing, tree)) == _plain(merge(tree, nothing)) == _plain(tree)
