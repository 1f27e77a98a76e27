"""The same templates on docker's command line and on ours; a docker context holds any data, without a daemon."""

import json
import os
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from lab.cli.gotemplate import render_documents
from lab.errors import TemplateError

# What differs on purpose: `join` takes any list of strings (docker's only where Go's type says so), nil has the length
# 0, errors do not name Go's types, `define template block call js` and hexadecimal floats are missing.
DATA = {
    "x": {
        "a": 1.0,
        "b": [1.0, "two", None, 1.5, True],
        "f": 12345678.0,
        "g": 1e21,
        "n": None,
        "h": "<&>\u2028é\u0001\b",
    },
    "l": ["a", "b"],
}
DOCUMENT = {"Name": "any", "Metadata": {"Name": "any", "Metadata": {"Description": "", "AdditionalFields": DATA}}}
TEMPLATES = [
    "{{DATA.x}}",
    "{{DATA.x.q}}|{{DATA.x.n}}",
    "{{DATA.x.q.z}}",
    "{{DATA.q.z}}",
    '{{index DATA.x "q"}}',
    '{{index DATA.x "q" "z"}}',
    "{{json DATA.x}}",
    "{{range $k, $v := DATA.x}}{{$k}}={{$v}};{{end}}",
    "{{range DATA.x.n}}a{{else}}b{{end}}{{len DATA.x}}",
    "{{DATA.x.b}} {{index DATA.x.b 1}} {{range $i, $e := DATA.x.b}}{{$i}}{{$e}},{{end}}",
    "{{eq DATA.x.a 1}}",
    '{{eq DATA.x.a 1.0}} {{printf "%d" DATA.x.a}} {{printf "%.2f|%v|%6.1f|%g|%e" DATA.x.a DATA.x.f 2.25 1e10 1.5}}',
    '{{range $i := DATA.x.b}}{{$i}}{{if eq (print $i) "two"}}{{break}}{{end}}{{end}}',
    '{{with DATA.x.n}}a{{else with "z"}}{{.}}{{else}}b{{end}}',
    "{{if eq 1 2}}a{{else if eq 1 1}}b{{else}}c{{end}}",
    "{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}",
    '{{printf "%t %q %v %05d %+d %x %X %o %b %c %U %%" true "a\\"b" nil 5 5 255 255 8 5 65 65}}',
    '{{printf "%d"}} {{printf "%d" 1 2}} {{printf "%z" 1}} {{printf "%s" true}} {{printf "%q" 1}}',
    '{{1.5}} {{0x1f}} {{1_000}} {{1e3}} {{"\\x41\\u00e9\\n"}}{{`raw\\n`}}{{printf "%c" 0}}',
    "{{'a'}}",
    '{{"a" | printf "%s-%s" "b"}}',
    '{{.Name | lower | upper | printf "%10s|"}}',
    "{{range .Name}}x{{end}}",
    "{{\n.Name\n}}",
    "{{.Name}",
    "{{.Name | }}",
    "{{if true}}a{{else}}b{{else}}c{{end}}",
    "{{. .}}",
    "{{..}}",
    "{{.1}}",
    '{{index (split "a" ",") "x"}}',
    '{{slice (split "a,b,c" ",") 1}}',
    "{{and}}",
    "{{not}}",
    "{{not 1 2}}",
    '{{"é" | len}} {{len "é"}}',
    '{{printf "%5.1s|" "héllo"}}',
    '{{true | not}} {{ne "a" "b"}} {{le 1 1}} {{eq true true}} {{lt true false}}',
    '{{truncate "héllo" 3}}',
    '{{pad "" 2 2}}|',
    '{{"a" "b"}}',
    "{{true 1}}",
    "{{.Name!}}",
    "{{range $a,$b,$c := .Name}}{{end}}",
    "{{$a, $b := .Name}}",
    '{{if $x := "v"}}{{$x}}{{end}}',
    '{{if $x := ""}}{{else}}{{$x}}e{{end}}{{$x}}',
    '{{printf "%d %s %5s %-5s| %q %v %T %x" 1 2 "a" "b" "c" "d" 3 "hi"}}',
    "{{if}}{{end}}",
    "{{}}",
    "{{end}}",
    "{{else}}",
    "{{if .}}",
    "{{.Name | foo}}",
    "{{$x}}",
    '{{.Name "a"}}',
    "{{json}}",
    "{{lower 1}}",
    "{{.Name.Foo}}",
    "{{len .Name}}{{len 3}}",
    "{{index .Name 1}}",
    "{{index .Name 9}}",
    '{{eq 1 "a"}}',
    '{{"abc}}',
    "{{.Name)}}",
    "{{(.Name}}",
    "{{1a}}",
    "{{range 3}}{{.}}{{end}}",
    "{{break}}",
    '{{.Name | "x"}}',
    "{{nil}}",
    '{{true}} {{not true}} {{and 1 0}} {{or 0 "x"}}',
    '{{print 1 2 "a" 3 "b" "c"}}|{{println 1 2}}|',
    '{{title "hello wOrld foo-bar a_b"}} {{pad "x" 2 3}}| {{truncate "hello" 2}} {{split "a,b" ","}}',
    '{{slice "hello" 1 3}} {{slice "hello" 9}}',
    '{{slice "hello" 3 1}}',
    '{{lt 1 2}} {{lt "a" "b"}} {{eq 1 2 1}} {{ne 1 1}}',
    '{{/* c */}}x {{- " y " -}}  z',
    "{{.Name -}} x {{-3}}",
    "{{.Name.x.y}}",
    '{{html "<a>&\\"\'"}} {{urlquery "a b&/"}}',
    "a{{- /* c */ -}} b",
    "{{.Name}}{{.Name",
    "{{if .Name}}{{.Name}}{{else}}{{end}}x{{with .Name}}{{.}}{{$.Name}}{{end}}",
    "{{with $y := .Name}}{{$y}}{{end}}{{$y}}",
    "{{continue}}",
    '{{range split "a,b,c" ","}}{{if eq . "b"}}{{continue}}{{end}}{{.}}{{end}}',
    '{{range $i, $_ := split "a,b,c" ","}}{{$i}}{{end}}',
    '{{lower .Name | title | printf "%-6s|%3d" "x" }}',
    '{{ge 2 1}}{{gt "b" "a"}}{{le 1.5 2.0}}{{lt 1 2.0}}',
    '{{join (split "a,b" ",") "-"}}',
    "{{index (index DATA.x.b 1) 0}}",
    '{{index DATA "x" "b" 1}}',
    '{{split "abc" ""}} {{len (split "" ",")}}',
    '{{printf "%v %s" DATA.l DATA.l}}',
    '{{json .Name}}{{json "<é>"}}{{json 1.0}}{{json true}}{{json (split "a,b" ",")}}',
    "{{upper nil}}",
    '{{and true "x" ""}}|{{or "" 0 nil}}',
    '{{if and (eq .Name "foo") (not false)}}y{{end}}',
    '{{if or (eq .Name "foo") (undefined)}}y{{end}}',
    '{{.Name | len | printf "%03d"}}',
    "{{- .Name -}}",
    " {{- 3 -}} ",
    '{{"a b" | urlquery | printf "%s"}}',
    "{{range $k := DATA.l}}{{$k}}{{else}}none{{end}}",
    '{{lower .Name (upper "x")}}',
    "{{.Name.}}",
    "{{ .Name . }}",
    '{{"\\q"}}',
    "{{if true}}{{end}}{{end}}",
    "{{range .Name}}",
    "{{(1)}} {{(print 1 2)}} {{print (1) (2)}}",
    "{{1 | print}} {{print | print}}",
    "{{(.Name) }}{{(.Metadata).Name}}",
    '{{printf "%6.2f|%-8v|%08.3f|%+.1e" 3.14159 "ab" 3.14159 12345.678}}',
    '{{printf "%v %v %v" 1e6 123456.0 0.00001}}',
    '{{printf "%s" nil}} {{printf "%d" "x"}} {{printf nil}}',
]


@pytest.fixture(scope="module")
def docker_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tmp_path_factory.mktemp("docker")
    directory = config / "contexts" / "meta" / sha256(b"any").hexdigest()
    directory.mkdir(parents=True)
    endpoints = {"docker": {"Host": "unix:///nowhere", "SkipTLSVerify": False}}
    (directory / "meta.json").write_text(json.dumps({"Name": "any", "Metadata": DATA, "Endpoints": endpoints}))
    return config


@pytest.mark.needs("docker")
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_means_the_same_to_docker(template: str, docker_config: Path) -> None:
    template = template.replace("DATA", ".Metadata.Metadata.AdditionalFields")
    theirs = subprocess.run(
        ["docker", "context", "inspect", "any", "--format", template],
        capture_output=True,
        env={**os.environ, "DOCKER_CONFIG": str(docker_config)},
    )
    try:
        code, ours = 0, render_documents(template, [DOCUMENT])
    except TemplateError as error:
        code, ours = error.exit_code, f"{error}\n"
    text = theirs.stderr if theirs.returncode else theirs.stdout
    assert (code, ours) == (theirs.returncode, text.decode(errors="replace"))
