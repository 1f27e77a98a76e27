"""YAML becomes a tree with places, and its scalars are what they are to docker compose."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lab.compose import yaml_text
from lab.compose.tree import Node, Tag
from lab.errors import SpecError


def _tree(text: str) -> Node:
    return yaml_text.parse(text, file="f.yaml", directory="/d")[0]


def _plain(node: Node) -> object:
    if node.entries():
        return {key: _plain(each) for key, each in node.entries().items()}
    return [_plain(each) for each in node.items()] if node.items() else node.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("No", "No"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("22:22", "22:22"),
        ("1:30:00", "1:30:00"),
        ("2026-01-02", "2026-01-02"),
        ("12", 12),
        ("-7", -7),
        ("0440", 0o440),
        ("0o440", 0o440),
        ("0x1f", 31),
        ("1_000", 1000),
        ("0b101", 5),
        ("0x_", "0x_"),
        ("0" + "7" * 30, float("7" * 30)),
        ("1" * 30, float("1" * 30)),
        ("08", 8.0),
        ("1.10", 1.1),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("3.8.1", "3.8.1"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("=", "="),
    ],
)
def test_a_plain_scalar_is_what_it_is_to_docker_compose(text: str, value: object) -> None:
    found = _tree(f"key: {text}").entries()["key"].value
    assert (found, type(found)) == (value, type(value))


def test_every_value_knows_its_line() -> None:
    tree = _tree("a:\n  b:\n    - one\n    - two\nc: >\n  folded\n")
    assert [tree.entries()[key].place.line for key in "ac"] == [1, 5]
    assert [item.place.line for item in tree.at("a").at("b").items()] == [3, 4]
    assert tree.at("c").place.join("x/../y") == "/d/y"


def test_aliases_and_merge_keys_are_resolved_and_own_keys_count_most() -> None:
    tree = _tree("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], c: 3}\nw: *x\n")
    assert _plain(tree.at("z")) == {"a": 1, "b": 1, "c": 3}
    assert _plain(tree.at("w")) == {"a": 1, "b": 1}


def test_a_merge_key_in_quotes_is_a_key() -> None:
    assert _plain(_tree("'<<': 1")) == {"<<": 1}


def test_each_document_of_a_file_is_a_tree_of_its_own() -> None:
    documents = yaml_text.parse(
        "---\n".join(f"a: {{b: [{number}]}}\n" for number in range(50)), file="f", directory="/"
    )
    assert [_plain(each) for each in documents] == [{"a": {"b": [number]}} for number in range(50)]


@pytest.mark.parametrize(("text", "tag", "value"), [("!reset null", Tag.RESET, None), ("!override 3", Tag.OVERRIDE, 3)])
def test_tags_of_merging_are_kept(text: str, tag: Tag, value: object) -> None:
    node = _tree(f"key: {text}").at("key")
    assert (node.tag, node.value) == (tag, value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: the key 'a' is there already, in line 1"),
        ("a: &a [*a]\n", "f.yaml:1: an alias that contains itself"),
        ("a: &a\n  <<: *a\n", "f.yaml:1: an alias that contains itself"),
        ("a: [1\nb: 2\n", "f.yaml:2: not YAML: while parsing a flow sequence, did not find expected ',' or ']'"),
        ("a: *nowhere\n", "f.yaml:1: not YAML: found undefined alias"),
        ("\ta: 1\n", "f.yaml:1: not YAML"),
        ("a: !made 1\n", "f.yaml:1: the tag !made is not known"),
        ("? [a]\n: 1\n", "f.yaml:1: a key has to be a text"),
        ("a: {<<: 3}\n", "f.yaml:1: '<<' takes a mapping, or a list of mappings"),
        ("a: \x01\n", "f.yaml: not YAML"),
        ("a:\n  " + "[" * 64 + "]" * 64, "f.yaml:2: more than 64 lists and mappings within each other"),
        ("[" * 5000, "f.yaml:1: not YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        _tree(text)
    assert str(error.value).startswith(message)


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(SpecError, match="aliases expand to more than"):
        _tree("\n".join(lines))


_SCALARS = st.none() | st.booleans() | st.integers() | st.text()
_DATA = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.text(), inner, min_size=1), max_leaves=12
)


@given(data=_DATA)
@example(data="0E0")  # a text to YAML 1.1
@example(data="yes")  # and one to YAML 1.2
def test_what_is_written_is_read_again(data: object) -> None:
    assert _plain(_tree(yaml_text.dump(data))) == data
