"""Where a project comes from: its files, its variables, its name, what it includes and extends."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from lab.compose.load import load
from lab.errors import SpecError

from .conftest import Load

_WEB = "services: {web: {image: web}}\n"


def test_the_first_of_the_usual_names_counts_with_the_first_override(project: Load) -> None:
    found = project(
        {
            "docker-compose.yml": "services: {old: {image: x}}",
            "compose.yaml": _WEB,
            "compose.override.yml": "services: {web: {tty: true}}",
        }
    )
    assert [Path(path).name for path in found.files] == ["compose.yaml", "compose.override.yml"]
    assert found.services["web"].tty
    assert "old" not in found.services
    assert found.warnings[0].startswith("Found multiple config files with supported names: ")
    assert found.warnings[1] == f"Using {found.working_directory}/compose.yaml"


@pytest.mark.parametrize("name", ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"])
def test_files_are_found_upwards(project: Load, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "app" / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "app" / "deep" / "er")
    found = project({name: _WEB, ".env": "A=1"})
    assert (found.name, found.working_directory) == ("app", str(tmp_path / "app"))
    assert found.environment["A"] == "1"


def test_without_a_file_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match="no configuration file provided: not found"):
        load(environment={})
    with pytest.raises(SpecError, match=f"{tmp_path}/none.yaml: cannot be read: No such file or directory"):
        load(["none.yaml"], environment={})


def test_a_file_without_services_is_one_but_an_empty_one_is_none(project: Load) -> None:
    assert project("networks: {front: }").services == {}
    with pytest.raises(SpecError, match=r"compose.yaml: empty compose file"):
        project("# nothing\n")


def test_a_file_can_come_from_standard_input(project: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("services: {web: {build: ./x}}"))
    found = project({}, ["-"])
    build = found.services["web"].build
    assert build is not None
    assert (found.name, build.context) == ("app", f"{found.working_directory}/x")


def test_the_environment_names_files(project: Load) -> None:
    files = {"a.yaml": _WEB, "sub/b.yaml": "services: {web: {tty: true}}"}
    found = project(files, environment={"COMPOSE_FILE": "a.yaml:sub/b.yaml"})
    assert found.services["web"].tty
    apart = project(files, environment={"COMPOSE_FILE": "a.yaml|sub/b.yaml", "COMPOSE_PATH_SEPARATOR": "|"})
    assert apart.files == found.files


def test_a_file_of_variables_can_say_it_all(project: Load) -> None:
    env = "COMPOSE_FILE=a.yaml\nCOMPOSE_PROJECT_NAME=other\nCOMPOSE_PROFILES=one,two\nTAG=7\n"
    found = project({".env": env, "a.yaml": "services: {web: {image: 'web:$TAG'}}"})
    assert (found.name, found.profiles, found.services["web"].image) == ("other", ("one", "two"), "web:7")
    assert found.env_files == (f"{found.working_directory}/.env",)


def test_the_environment_counts_more_than_files_of_variables(project: Load) -> None:
    files = {
        ".env": "A=env\nB=env\n",
        "x.env": "A=x\n",
        "y.env": "A=y\n",
        "compose.yaml": "services: {web: {image: '$A-${B:-}'}}",
    }
    assert project(files).services["web"].image == "env-env"
    assert project(files, environment={"A": "out"}).services["web"].image == "out-env"
    assert project(files, environment={"COMPOSE_DISABLE_ENV_FILE": "1"}).services["web"].image == "-"
    assert project(files, env_files=["x.env", "y.env"]).services["web"].image == "y-"
    assert project(files, environment={"COMPOSE_ENV_FILES": "y.env,x.env"}).services["web"].image == "x-"


def test_a_project_directory_moves_paths_and_name(project: Load, tmp_path: Path) -> None:
    found = project(
        {"deploy/c.yaml": "services: {web: {build: .}}"}, ["deploy/c.yaml"], project_directory="../Some Where"
    )
    build = found.services["web"].build
    assert build is not None
    assert (found.name, build.context) == ("somewhere", str(tmp_path / "Some Where"))
    assert project({}, ["deploy/c.yaml"]).name == "deploy"


@pytest.mark.parametrize(
    ("flags", "environment", "file", "name"),
    [
        ({"name": "flag"}, {"COMPOSE_PROJECT_NAME": "env"}, "name: file\n", "flag"),
        ({}, {"COMPOSE_PROJECT_NAME": "env"}, "name: file\n", "env"),
        ({}, {"N": "x"}, "name: file-$N\n", "file-x"),
        ({}, {}, "", "app"),
    ],
)
def test_a_project_is_called(
    project: Load, flags: dict[str, str], environment: dict[str, str], file: str, name: str
) -> None:
    text = file + "services: {web: {image: 'x:$COMPOSE_PROJECT_NAME'}}\n"
    found = project(text, environment=environment, **flags)
    assert (found.name, found.services["web"].image) == (name, f"x:{name}")


@pytest.mark.parametrize("name", ["Upper", "_x", "a.b", "ä"])
def test_a_name_that_is_none_is_refused(project: Load, name: str) -> None:
    with pytest.raises(SpecError, match=f"invalid project name '{name}': must consist only of lowercase"):
        project(_WEB, name=name)


def test_networks_and_volumes_are_called_by_the_project(project: Load) -> None:
    found = project(
        """
        services: {web: {image: web, networks: [default, own, there, old]}}
        networks: {own: {name: mine}, there: {external: true}, old: {external: {name: ancient}}}
        volumes: {data: , there: {external: true, name: real}}
        """
    )
    assert {key: (each.name, each.external) for key, each in found.networks.items()} == {
        "own": ("mine", False),
        "there": ("there", True),
        "old": ("ancient", True),
        "default": ("app_default", False),
    }
    assert [(each.name, each.external) for each in found.volumes.values()] == [("app_data", False), ("real", True)]


def test_a_project_without_a_service_on_it_has_no_default_network(project: Load) -> None:
    assert project("services: {web: {image: x, network_mode: host}}").networks == {}


def test_profiles_activate_services_and_naming_one_does_so_too(project: Load) -> None:
    text = "services: {a: {image: x}, b: {image: x, profiles: [p]}, c: {image: x, profiles: [p, q]}}"

    def active(**flags: object) -> str:
        found = project(text, **flags)
        return "".join(name for name in found.services if found.is_active(name))

    assert (active(), active(profiles=["p"]), active(profiles=["q"]), active(profiles=["*"])) == (
        "a",
        "abc",
        "ac",
        "abc",
    )
    assert active(environment={"COMPOSE_PROFILES": "q,r"}) == "ac"
    assert active(named=["b"]) == "abc"
    assert active(named=["c"], profiles=["q"]) == "ac"


class TestInclude:
    """The top-level ``include``."""

    def test_brings_what_another_file_has_with_its_own_paths_and_variables(self, project: Load) -> None:
        found = project(
            {
                "compose.yaml": "include: [sub/c.yaml]\nservices: {web: {image: x, depends_on: [db]}}\n",
                "sub/c.yaml": """
                    include: [deeper/d.yaml]
                    services: {db: {build: ./db, image: 'db:$TAG-$OWN', env_file: x.env}}
                    volumes: {data: }
                    """,
                "sub/deeper/d.yaml": "services: {deep: {build: .}}\n",
                "sub/.env": "TAG=sub\nOWN=sub\n",
                "sub/x.env": "A=1\n",
                ".env": "TAG=top\n",
            }
        )
        db, deep = found.services["db"], found.services["deep"]
        assert db.build is not None
        assert deep.build is not None
        assert (db.build.context, db.image) == (f"{found.working_directory}/sub/db", "db:top-sub")
        assert (db.environment, list(found.volumes)) == ({"A": "1"}, ["data"])
        assert deep.build.context == f"{found.working_directory}/sub/deeper"

    def test_takes_several_files_a_directory_and_variables(self, project: Load) -> None:
        found = project(
            {
                "compose.yaml": """
                    include:
                      - path: [sub/a.yaml, sub/b.yaml]
                        project_directory: .
                        env_file: sub/some.env
                    """,
                "sub/a.yaml": "services: {db: {build: ., image: 'x:$TAG'}}\n",
                "sub/b.yaml": "services: {db: {tty: true}}\n",
                "sub/some.env": "TAG=some\n",
            }
        )
        db = found.services["db"]
        assert db.build is not None
        assert (db.build.context, db.tty, db.image) == (found.working_directory, True, "x:some")

    def test_of_the_same_name_twice_is_refused_but_a_further_file_may_change_it(self, project: Load) -> None:
        files = {"compose.yaml": "include: [b.yaml]\n" + _WEB, "b.yaml": "services: {web: {image: other}}\n"}
        with pytest.raises(SpecError, match=r"compose.yaml:2: services.web: is also in .*b.yaml, which is included"):
            project(files)
        files = {"compose.yaml": "include: [b.yaml]\n", "compose.override.yaml": "services: {web: {tty: true}}\n"}
        web = project(files).services["web"]
        assert (web.image, web.tty) == ("other", True)

    def test_of_one_file_on_two_ways_is_no_conflict(self, project: Load) -> None:
        found = project(
            {
                "compose.yaml": "include: [b.yaml, c.yaml]\n",
                "b.yaml": "include: [base.yaml]\nservices: {b: {image: b}}\n",
                "c.yaml": "include: [base.yaml]\nservices: {c: {image: c}}\n",
                "base.yaml": _WEB,
            }
        )
        assert sorted(found.services) == ["b", "c", "web"]

    def test_that_leads_round_is_refused_with_the_way(self, project: Load) -> None:
        files = {"compose.yaml": "include: [b.yaml]\n" + _WEB, "b.yaml": "\ninclude: [compose.yaml]\n"}
        with pytest.raises(SpecError, match=r"b.yaml:2: include: leads round: \S*compose.yaml -> \S*b.yaml -> \S*comp"):
            project(files)

    def test_of_nothing_names_the_line_that_includes(self, project: Load) -> None:
        with pytest.raises(SpecError, match=r"compose.yaml:2: \S*none.yaml: cannot be read: No such file"):
            project("include:\n  - none.yaml\n" + _WEB)

    def test_from_elsewhere_is_told_to_be_impossible(self, project: Load) -> None:
        with pytest.raises(SpecError, match="cannot be read") as error:
            project("include: ['oci://registry.example/project:1']\n" + _WEB)
        assert error.value.hint == "files are read from this host only"


class TestExtends:
    """``extends`` of a service."""

    def test_a_service_of_the_same_file_and_of_another(self, project: Load) -> None:
        found = project(
            {
                "compose.yaml": """
                    services:
                      base: {image: base, environment: {A: base, B: base}, command: [x, y]}
                      web: {extends: base, environment: {B: web}, command: z}
                      far: {extends: {service: mid, file: sub/other.yaml}, tty: true}
                    """,
                "sub/other.yaml": """
                    services:
                      mid: {extends: low, volumes: ['./m:/m']}
                      low: {build: ., env_file: low.env, volumes: ['./l:/l']}
                      unused: {image: x, networks: [not-there]}
                    """,
                "sub/low.env": "L=1\n",
            }
        )
        web, far = found.services["web"], found.services["far"]
        sub = f"{found.working_directory}/sub"
        assert (web.image, web.environment, web.command) == ("base", {"A": "base", "B": "web"}, ("z",))
        assert far.build is not None
        assert (far.build.context, far.environment, far.tty) == (sub, {"L": "1"}, True)
        assert [each.source for each in far.volumes] == [f"{sub}/l", f"{sub}/m"]
        assert "mid" not in found.services

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{a: {extends: a}}", "services.a.extends: leads round: a -> a"),
            ("{a: {extends: b}, b: {extends: c}, c: {extends: b}}", "services.b.extends: leads round: b -> c -> b"),
            ("{a: {extends: c}, b: {image: x}}", "services.a.extends: there is no service 'c'"),
            ("{a: {extends: {service: c, file: o.yaml}}}", "services.a.extends: there is no service 'c' in o.yaml"),
            ("{a: {extends: {service: c, file: none.yaml}}}", "/app/none.yaml: cannot be read: No such file"),
            ("{a: {extends: {file: o.yaml}}}", "services.a.extends: 'service' is missing"),
            ("{a: {extends: {service: back, file: o.yaml}}}", "services.back.extends: leads round: back -> there -> "),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_refused(self, project: Load, text: str, message: str) -> None:
        other = """
            services:
              o: {image: o}
              back: {extends: {service: there, file: p.yaml}}
            """
        there = "services: {there: {extends: {service: back, file: o.yaml}}}"
        with pytest.raises(SpecError) as error:
            project({"compose.yaml": f"services: {text}\n", "o.yaml": other, "p.yaml": there})
        assert message in str(error.value)
        assert error.value.line is not None
