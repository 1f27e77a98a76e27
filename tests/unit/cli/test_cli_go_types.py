"""Templates over docker's documents: what JSON leaves out has the values of Go's types."""

from __future__ import annotations

import json

import pytest

from lab.cli import go_types
from lab.cli.gotemplate import render_documents
from lab.cli.template_values import Value
from lab.errors import TemplateError
from lab.units import Nanoseconds

BARE = {
    "Id": "1",
    "State": {"Status": "created"},
    "Config": {"Cmd": ["sh"], "Entrypoint": None},
    "HostConfig": {"CapAdd": None, "PidsLimit": None},
    "NetworkSettings": {"Networks": {"none": {"Aliases": None}}},
    "Mounts": [{"Type": "bind", "Source": "/x"}],
}


def _shown(template: str, document: Value = BARE) -> str:
    return render_documents(template, [document], as_go=go_types.container_or_image).removesuffix("\n")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.State.Health}}|{{if .State.Health}}yes{{end}}", "<nil>|"),
        ("{{.Config.Entrypoint}}{{.HostConfig.CapAdd}}{{.HostConfig.Sysctls}}", "[][]map[]"),
        ("{{.HostConfig.PidsLimit}}|{{.Config.StopSignal}}|{{.Config.ArgsEscaped}}", "<nil>||false"),
        ("{{json .HostConfig.CapAdd}}{{json .State.Health}}{{json .Config.Volumes}}", "nullnullnull"),
        ("{{len .HostConfig.CapAdd}}{{range .HostConfig.CapAdd}}x{{else}}none{{end}}", "0none"),
        ("{{range .Mounts}}{{.Name}}{{.Driver}}|{{end}}", "|"),
        ("{{range .NetworkSettings.Networks}}{{.Links}}{{.Aliases}}{{end}}", "[][]"),
        ("{{json .State}}", '{"Status":"created"}'),
        ("{{.State}}", "map[Status:created]"),
    ],
)
def test_what_nothing_is_said_of_has_the_value_of_its_type(template: str, text: str) -> None:
    assert _shown(template) == text


@pytest.mark.parametrize("template", ["{{.State.Health.Status}}", "{{.Nosuch}}", "{{.Config.Nosuch}}"])
def test_what_no_type_has_is_an_error(template: str) -> None:
    with pytest.raises(TemplateError):
        _shown(template)


def test_a_health_check_tells_its_times_as_go_does() -> None:
    check = {"Test": ["CMD", "x"], "Timeout": Nanoseconds(1_000_000)}
    document = {**BARE, "Config": {"Healthcheck": check}}
    assert _shown("{{.Config.Healthcheck.Timeout}} {{.Config.Healthcheck.Interval}}", document) == "1ms 0s"
    assert _shown("{{json .Config.Healthcheck}}", document) == '{"Test":["CMD","x"],"Timeout":1000000}'
    assert _shown('{{printf "%d %s" .Config.Healthcheck.Timeout .Config.Healthcheck.Timeout}}', document) == (
        "1000000 1ms"
    )
    assert _shown("{{eq .Config.Healthcheck.Timeout 1000000}}", document) == "true"


def test_an_image_is_told_by_its_root_file_system() -> None:
    image = {"Id": "2", "RootFS": {"Type": "layers"}, "Config": {"Cmd": None}}
    assert _shown("{{.RepoTags}}{{.RootFS.Layers}}{{.Config.Cmd}}{{.Config.ExposedPorts}}{{.Variant}}", image) == (
        "[][][]map[]"
    )


def test_without_a_template_a_document_is_what_it_is() -> None:
    assert json.loads(_shown("", BARE)) == [BARE]
    assert json.loads(_shown("json", BARE)) == [BARE]
