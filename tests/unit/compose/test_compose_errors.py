"""What is wrong in a file is told with file, line and key, and with what was probably meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.compose import schema, yaml_text
from lab.compose.assemble import Source, assemble
from lab.compose.interpolation import Variables
from lab.compose.services import service
from lab.errors import SpecError

from .conftest import Load

_WEB = "services:\n  web:\n    image: web\n"


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        (_WEB + "    imagee: x\n", 4, "services.web.imagee: there is no such key", "did you mean 'image'?"),
        (_WEB + "    build: {contxt: .}\n", 4,
         "services.web.build.contxt: there is no such key", "did you mean 'context'?"),
        ("service: {}\n", 1, "service: there is no such key", "did you mean 'services'?"),
        (_WEB + "    ports: 80\n", 4, "services.web.ports: has to be a list, not the number 80", ""),
        (_WEB + "    ports:\n      - x:80\n", 5,
         "services.web.ports[0]: invalid hostPort: x: write [[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]", ""),
        (_WEB + "    ports:\n      - '1-3:80-81'\n", 5, "services.web.ports[0]: invalid ranges specified", ""),
        (_WEB + "    ports: [{published: 80}]\n", 4, "services.web.ports[0]: 'target' is missing", ""),
        (_WEB + "    ports: [{target: 80, published: x}]\n", 4,
         "services.web.ports[0].published: has to be a port or a range of ports, not 'x'", ""),
        (_WEB + "    ports: [[80]]\n", 4, "services.web.ports[0]: has to be a text or a mapping, not a list", ""),
        (_WEB + "    volumes: ['a:b:c:d']\n", 4, "services.web.volumes[0]: 'a:b:c:d' is no volume", ""),
        (_WEB + "    volumes: ['/a:/b:nocopy']\n", 4,
         "services.web.volumes[0]: 'nocopy' is no option of a bind mount", ""),
        (_WEB + "    volumes: [{type: bnd, target: /x}]\n", 4,
         "services.web.volumes[0].type: 'bnd' is none of: bind, volume, tmpfs, image", "did you mean 'bind'?"),
        (_WEB + "    mem_limit: much\n", 4, "services.web.mem_limit: has to be a size such as 512m, not 'much'", ""),
        (_WEB + f"    mem_limit: '{'9' * 400}'\n", 4, "services.web.mem_limit: has to be a size such as 512m", ""),
        (_WEB + "    ports: [{}]\n", 4, "services.web.ports[0]: 'target' is missing", ""),
        (_WEB + "    cpus: .nan\n", 4, "services.web.cpus: has to be a number, not the number nan", ""),
        (_WEB + "    cpus: true\n", 4, "services.web.cpus: has to be a number, not the truth value true", ""),
        (_WEB + "    healthcheck: {interval: 5}\n", 4,
         "services.web.healthcheck.interval: has to be a duration such as 1m30s, not the number 5", ""),
        (_WEB + "    healthcheck: {test: [curl]}\n", 4,
         "services.web.healthcheck.test: a list has to begin with NONE, CMD or CMD-SHELL", ""),
        (_WEB + "    tty: maybe\n", 4, "services.web.tty: has to be true or false, not 'maybe'", ""),
        (_WEB + "    image: 1.0\n", 4, "the key 'image' is there already, in line 3", ""),
        ("services: {web: {image: 1.0}}\n", 1, "services.web.image: has to be a text, not the number 1",
         "write it in quotes"),
        (_WEB + "    command: echo 'x\n", 4,
         "services.web.command: cannot be split into words: no closing quotation", ""),
        (_WEB + "    restart: sometimes\n", 4, "services.web.restart: has to be no, always", ""),
        (_WEB + "    environment: 3\n", 4,
         "services.web.environment: has to be a mapping or a list of NAME=VALUE, not the number 3", ""),
        (_WEB + "    environment: {A: [1]}\n", 4, "services.web.environment.A: has to be a text, a number or", ""),
        (_WEB + "    environment: [=x]\n", 4, "services.web.environment[0]: '=x' has no name before the '='", ""),
        (_WEB + "    extra_hosts: [a]\n", 4, "services.web.extra_hosts[0]: 'a' is no host: write NAME:ADDRESS", ""),
        (_WEB + "    depends_on: {db: {condition: healthy}}\n", 4,
         "services.web.depends_on.db.condition: 'healthy' is none of:", "did you mean 'service_healthy'?"),
        (_WEB + "    configs: [{source: a, mode: '9'}]\n", 4,
         "services.web.configs[0].mode: has to be permission bits such as 0440, not '9'", ""),
        (_WEB + "    provider: {type: x}\n", 4, "services.web.provider: services that other programs provide", ""),
        ("services: {'a b': {image: x}}\n", 1, "services: 'a b' is no name", ""),
        ("services: [web]\n", 1, "services: has to be a mapping, not a list", ""),
        ("- web\n", 1, "a compose file is a mapping", ""),
        (_WEB + "    post_start: [{command: []}]\n", 4, "services.web.post_start[0].command: has to have a word", ""),
        ("services:\n  web:\n", 2, "services.web: has neither 'image' nor 'build'", ""),
        ("services: {web: {image: '${X:?give it}'}}\n", 1,
         "services.web.image: required variable X is missing a value: give it", ""),
        ("services: {web: {image: 'a$'}}\n", 1, "services.web.image: invalid interpolation format: 'a$'; write $$", ""),
        (_WEB + "    networks: [fornt]\nnetworks: {front: }\n", 4,
         "services.web.networks: there is no network 'fornt'", "did you mean 'front'?"),
        (_WEB + "    volumes:\n    - data:/x\n", 5, "services.web.volumes[0]: there is no volume 'data'",
         "declare it under 'volumes' at the top of the file"),
        (_WEB + "    secrets: [a]\n", 4,
         "services.web.secrets[0]: there is no secret 'a'", "declare it under 'secrets'"),
        (_WEB + "    build: {secrets: [a]}\n", 4, "services.web.build.secrets[0]: there is no secret 'a'", ""),
        (_WEB + "    depends_on: [dbs]\n  db: {image: x}\n", 4, "services.web.depends_on: there is no service 'dbs'",
         "did you mean 'db'?"),
        (_WEB + "    links: ['bd:x']\n", 4, "services.web.links: there is no service 'bd'", ""),
        (_WEB + "    network_mode: service:bd\n", 4, "services.web.network_mode: there is no service 'bd'", ""),
        (_WEB + "    depends_on: [db]\n  db: {image: x, profiles: [p, q]}\n", 4,
         "services.web.depends_on: the service 'db' is in no active profile", "activate one of its profiles"),
        (_WEB + "    network_mode: host\n    networks: [default]\n", 5,
         "services.web.networks: cannot be said together with 'network_mode'", ""),
        (_WEB + "    cpus: 1\n    deploy: {resources: {limits: {cpus: 2}}}\n", 4,
         "services.web.cpus: says 1, and 'deploy.resources.limits.cpus' 2", ""),
        (_WEB + "    ports: [{target: 70000}]\n", 4, "services.web.ports[0].target: has to be a port, 1 to 65535", ""),
        (_WEB + "    scale: -1\n", 4, "services.web.scale: has to be a whole number, 0 or more", ""),
        (_WEB + "    container_name: one\n  db: {image: x, container_name: one}\n", 5,
         "services.db.container_name: 'one' is what 'web' is called", ""),
        (_WEB + "    scale: 1\n    deploy: {replicas: 2}\n", 4,
         "services.web.scale: says 1, and 'deploy.replicas' 2", ""),
        (_WEB + "    build: {dockerfile: a, dockerfile_inline: b}\n", 4, "services.web.build: has both", ""),
        ("services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, links: [c]}\n"
         "  c: {image: x, pid: 'service:a'}\n", 4,
         "services.c.pid: services wait for each other: a -> b -> c -> a", ""),
        ("services: {a: {image: x, depends_on: [a]}}\n", 1,
         "services.a.depends_on: services wait for each other: a -> a", ""),
        (_WEB + "volumes:\n  v: {external: true, driver: local}\n", 5,
         "volumes.v.driver: means nothing for what is external", ""),
        (_WEB + "secrets: {s: {}}\n", 4, "secrets.s: needs one of: file, environment, content, external", ""),
        (_WEB + "configs: {s: {file: a, content: b}}\n", 4,
         "configs.s: 'file' and 'content' cannot be said together", ""),
        (_WEB + "    env_file: none.env\n", 4, "services.web.env_file[0]: env file ", "'required: false'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_line_and_key(project: Load, text: str, line: int, message: str, hint: str) -> None:
    with pytest.raises(SpecError) as error:
        project(text)
    where = f"{error.value.path}:{line}: "
    assert error.value.path.endswith("/app/compose.yaml")
    assert (error.value.line, str(error.value)[: len(where + message)]) == (line, where + message)
    assert error.value.hint.startswith(hint)


def test_an_inactive_service_may_want_what_is_not_there(project: Load) -> None:
    found = project(
        _WEB + "  debug: {image: x, profiles: [debug], env_file: none.env, label_file: none, networks: [none]}\n"
    )
    assert not found.is_active("debug")
    with pytest.raises(SpecError, match="there is no network 'none'"):
        project({}, profiles=["debug"])


def test_what_has_no_effect_is_told_and_accepted(project: Load) -> None:
    found = project("version: '3.8'\n" + _WEB + "    storage_opt: {size: 1g}\n    runtime: runc\n")
    assert [warning.rsplit("/", 1)[-1].split(",")[0] for warning in found.warnings] == [
        "compose.yaml: the attribute `version` is obsolete",
        "services.web.storage_opt: has no effect here",
    ]


_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(alphabet="a/:.=$-01", max_size=6)
)
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("a", "source", "target")), inner),
    max_leaves=5,
)
_SERVICE = st.dictionaries(st.sampled_from(sorted(schema.SERVICE.keys)), _ANYTHING, min_size=1, max_size=2)


@given(keys=_SERVICE)
def test_whatever_a_service_says_is_read_or_refused_with_its_line(keys: dict[str, object]) -> None:
    text = yaml_text.dump({"services": {"web": {"image": "web", **keys}}})
    document = yaml_text.parse(text, file="f.yaml", directory="/")
    try:
        tree = assemble(document, Source(directory="/", variables=Variables(values={})))
    except SpecError as error:
        wrong = error
    else:
        assert service("web", tree.at("services").at("web"), {}, reads_files=False).name == "web"
        return
    assert (wrong.path, wrong.line is not None) == ("f.yaml", True)
