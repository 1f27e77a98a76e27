"""Templates of --format: what they give, what they refuse, tables and documents."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.cli.columns import align
from lab.cli.gotemplate import parse, render_documents, render_rows
from lab.errors import EXIT_TEMPLATE, TemplateError

CONTAINER = {
    "Id": "4f53cda1",
    "Name": "/web",
    "State": {"Status": "running", "Pid": 42, "OOMKilled": False},
    "Config": {"Env": ["A=1", "B=2"], "Cmd": None, "Labels": {"com.example.role": "front", "x": "<&>"}},
    "Mounts": [{"Source": "/a", "Destination": "/b"}, {"Source": "/c", "Destination": "/d"}],
}

RENDERED = {
    "{{.Id}}": "4f53cda1",
    "{{.State.Status}} {{.State.Pid}}": "running 42",
    '{{index .Config.Labels "com.example.role"}}': "front",
    '{{index .Config.Labels "none"}}|{{.Config.Labels.none}}': "|<no value>",
    '{{join .Config.Env ","}}': "A=1,B=2",
    "{{range .Mounts}}{{.Source}}:{{.Destination}} {{end}}": "/a:/b /c:/d ",
    "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}": "com.example.role=front;x=<&>;",
    "{{if .State.OOMKilled}}dead{{else if eq .State.Pid 42}}42{{else}}alive{{end}}": "42",
    "{{range .Config.Cmd}}x{{else}}none{{end}}": "none",
    "{{json .State}}": '{"Status":"running","Pid":42,"OOMKilled":false}',
    "{{json .Config.Labels}}": '{"com.example.role":"front","x":"<&>"}',
    '{{.Name | lower | printf "%-6s|"}}': "/web  |",
    "{{upper .State.Status}} {{title .State.Status}} {{len .Mounts}}": "RUNNING Running 2",
    '{{with index .Mounts 1}}{{.Source}}{{$.Id}}{{end}} {{slice "hello" 1 3}}': "/c4f53cda1 el",
    '{{index (split "a:b:c" ":") 1}}': "b",
    "a {{- /* said to nobody */ -}} b{{- 1 }} {{ 2 -}} c": "ab1 2c",
    "{{$n := 0}}{{range .Mounts}}{{$n = len .Source}}{{end}}{{$n}}": "2",
    "{{println 1 2}}{{print 1 2}}": "1 2\n1 2",
    '{{printf "%q %s" .Config.Env .Config.Env}}': '["A=1" "B=2"] [A=1 B=2]',
    "{{and 1 0}} {{or 0 `x`}} {{not true}} {{ne 1 2}}": "0 x false true",
}

REFUSED = {
    "{{.Id": "template: :1: unclosed action",
    "{{nothing}}": 'template: :1: function "nothing" not defined',
    "{{if .Id}}": "template: :1: unexpected EOF",
    "{{end}}": "template: :1: unexpected {{end}}",
    "{{}}": "template: :1: missing value for command",
    "\n{{$x}}": 'template: :2: undefined variable "$x"',
    '{{"abc}}': "template: :1: unterminated quoted string",
    "{{(.Id}}": "template: :1: unclosed left paren",
    '{{template "x"}}': "template: :1: template is not part of the lab's templates",
    "{{.Nope}}": 'template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope"',
    "{{.State.Nope}}": 'template: :1:8: executing "" at <.State.Nope>: map has no entry for key "Nope"',
    "{{lower 1}}": 'template: :1:8: executing "" at <1>: expected string; found 1',
    "{{json}}": 'template: :1:2: executing "" at <json>: wrong number of args for json: want 1 got 0',
    "{{index .Mounts 7}}": (
        'template: :1:2: executing "" at <index .Mounts 7>: error calling index: index out of range: 7'
    ),
}


@pytest.mark.parametrize("template", RENDERED)
def test_a_template_gives_what_docker_gives(template: str) -> None:
    assert parse(template).render(CONTAINER) == RENDERED[template]


@pytest.mark.parametrize("template", REFUSED)
def test_a_wrong_template_is_told_in_dockers_words(template: str) -> None:
    with pytest.raises(TemplateError) as refusal:
        parse(template).render(CONTAINER)
    assert str(refusal.value) == f"template parsing error: {REFUSED[template]}"


@given(st.text(alphabet="{}-.$|()\"`' abidefnrgjso:=,12\n\t\\/*%", max_size=60))
def test_any_text_is_rendered_or_refused_in_one_sentence(template: str) -> None:
    try:
        parse(template).render(CONTAINER)
    except TemplateError as error:
        message = str(error)
    else:
        return
    assert message.startswith("template parsing error: template: :")


@given(st.text().filter(lambda text: "{{" not in text))
def test_text_without_actions_is_itself(text: str) -> None:
    assert parse(text).render({}) == text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e15, 1e15) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_the_json_function_writes_the_value(value: object) -> None:
    assert json.loads(parse("{{json .Value}}").render({"Value": value})) == value


@given(st.text())
def test_a_quoted_string_is_that_string(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assert parse(f'{{{{"{quoted}"}}}}').render(None) == text


@given(st.lists(st.lists(st.text(alphabet="abc \u00e9", max_size=20), min_size=3, max_size=3), min_size=1, max_size=6))
def test_columns_begin_at_the_same_place_in_every_line(rows: list[list[str]]) -> None:
    lines = align("".join("\t".join(row) + "\n" for row in rows)).split("\n")[:-1]
    starts = [max(10, *(len(row[column]) + 3 for row in rows)) for column in (0, 1)]
    for line, row in zip(lines, rows, strict=True):
        assert line[starts[0] :].startswith(row[1])
        assert line[sum(starts) :] == row[2]


ROWS = [{"ID": "4f5", "Names": "<web>", "Label": {"role": "front"}.get}, {"ID": "4f6", "Names": "db", "Label": {}.get}]
HEADINGS = {"ID": "CONTAINER ID", "Names": "NAMES"}


def test_a_table_has_headings_and_aligned_columns() -> None:
    text = render_rows("table {{.ID}}\\t{{upper .Names}}", ROWS, HEADINGS)
    assert text == "CONTAINER ID   NAMES\n4f5            <WEB>\n4f6            DB\n"


def test_the_heading_of_a_label_is_the_last_part_of_its_key() -> None:
    assert render_rows('table {{.Label "com.example.a_role"}}', [], HEADINGS) == "a role\n"


def test_rows_without_table_have_no_headings() -> None:
    assert render_rows("{{.Names}}\\t|", ROWS, HEADINGS) == "<web>\t|\ndb\t|\n"


def test_an_empty_format_and_table_alone_are_the_default() -> None:
    wanted = render_rows("table {{.ID}}", ROWS, HEADINGS)
    assert render_rows("", ROWS, HEADINGS, default="table {{.ID}}") == wanted
    assert render_rows("table", ROWS, HEADINGS, default="table {{.ID}}") == wanted


def test_json_is_one_object_a_line_with_sorted_keys_and_escaped_html() -> None:
    wanted = '{"ID":"4f5","Names":"\\u003cweb\\u003e"}\n{"ID":"4f6","Names":"db"}\n'
    assert render_rows("json", ROWS, HEADINGS) == wanted
    assert render_rows("{{json .}}", ROWS, HEADINGS) == wanted


def test_a_field_that_takes_an_argument_is_given_it() -> None:
    assert render_rows('{{.Label "role"}}', ROWS, HEADINGS) == "front\n<no value>\n"


def test_documents_without_format_are_an_indented_array() -> None:
    assert (
        render_documents("", [{"Id": "x", "Env": []}]) == '[\n    {\n        "Id": "x",\n        "Env": []\n    }\n]\n'
    )


def test_documents_as_json_are_compact_and_by_template_a_line_each() -> None:
    assert render_documents("json", [{"Id": "<x>"}, {"Id": "y"}]) == '[{"Id":"<x>"},{"Id":"y"}]\n'
    assert render_documents("{{.Id}}", [{"Id": "<x>"}, {"Id": "y"}]) == "<x>\ny\n"


def test_inspects_exit_code_for_wrong_syntax_is_dockers() -> None:
    with pytest.raises(TemplateError) as refusal:
        render_documents("{{", [])
    assert refusal.value.exit_code == EXIT_TEMPLATE


def test_a_field_that_rows_do_not_have_is_told_with_those_that_they_have() -> None:
    with pytest.raises(TemplateError, match="can't evaluate field Nope") as refusal:
        render_rows("{{.Nope}}", ROWS, HEADINGS)
    assert refusal.value.hint == "one of: ID, Names, Label"
