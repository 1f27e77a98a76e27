"""A Dockerfile becomes the stages and steps that its target needs, with the configuration after each."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.image import build_plan as p
from lab.container.image.build_steps import Action, CopyFiles, Execute, Inline, MakeDirectory
from lab.container.image.dockerfile import parse_dockerfile
from lab.container.spec.image import ExecutionConfig, Healthcheck
from lab.errors import BuildFailed, DockerfileError, ImageNotFound, SpecError

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IMAGES = {
    "base": ExecutionConfig(env=("PATH=/bin", "v=base"), cmd=("sh",), working_dir="/srv", volumes=("/old",)),
    "trigger": ExecutionConfig(on_build=("COPY . /app", "RUN make")),
    "base:1.2": ExecutionConfig(),
}
ACTION = Execute(args=("x",), env=("a=1",))


def _look_up(name: str) -> ExecutionConfig:
    if name not in IMAGES:
        raise ImageNotFound(f"no image {name}")
    return IMAGES[name]


def _plan(text: str, target: str = "", labels: Mapping[str, str] | None = None, **build_args: str) -> p.BuildPlan:
    wishes = p.Wishes(platform="linux/amd64", target=target, build_args=build_args, labels=labels or {})
    return p.plan(parse_dockerfile(text), wishes, _look_up)


def _config(lines: str, **build_args: str) -> ExecutionConfig:
    return _plan(f"FROM base\n{lines}", **build_args).config


def _actions(lines: str, **build_args: str) -> list[Action]:
    steps = _plan(f"FROM base\n{lines}", **build_args).target.steps
    return [step.action for step in steps if step.action is not None]


def _execute(lines: str, **build_args: str) -> Execute:
    action = _actions(lines, **build_args)[-1]
    assert isinstance(action, Execute)
    return action


def _copy(lines: str) -> CopyFiles:
    action = _actions(lines)[-1]
    assert isinstance(action, CopyFiles)
    return action


@pytest.mark.parametrize(
    ("lines", "changes"),
    [
        ("ENV a=1 v=2", {"env": ("PATH=/bin", "v=2", "a=1")}),
        ("ENV a=$v\nENV v=x b=$v$a", {"env": ("PATH=/bin", "v=x", "a=base", "b=basebase")}),
        ("ENV a $v b", {"env": ("PATH=/bin", "v=base", "a=base b")}),
        ("ARG a=1\nENV b=${a:-2} c=${none:-2}", {"env": ("PATH=/bin", "v=base", "b=1", "c=2")}),
        ("ARG v=arg\nENV w=$v", {"env": ("PATH=/bin", "v=base", "w=base")}),
        ("LABEL a=$v 'b c'=d", {"labels": {"a": "base", "b c": "d"}}),
        ("CMD x y", {"cmd": ("/bin/sh", "-c", "x y")}), ('CMD ["x", "$v"]', {"cmd": ("x", "$v")}),
        ("CMD []", {"cmd": ()}), ('CMD ["a"]\nCMD ["b"]', {"cmd": ("b",)}),
        ('ENTRYPOINT ["x"]', {"entrypoint": ("x",), "cmd": ()}),
        ("CMD a\nENTRYPOINT b", {"cmd": ("/bin/sh", "-c", "a"), "entrypoint": ("/bin/sh", "-c", "b")}),
        ('SHELL ["/bin/ash", "-ec"]\nCMD a', {"shell": ("/bin/ash", "-ec"), "cmd": ("/bin/ash", "-ec", "a")}),
        ("EXPOSE 80 8000-8001/UDP 1.2.3.4:1:2", {"exposed_ports": ("2/tcp", "80/tcp", "8000/udp", "8001/udp")}),
        ('ENV p="1 2"\nEXPOSE $p', {"env": ("PATH=/bin", "v=base", "p=1 2"), "exposed_ports": ("1/tcp", "2/tcp")}),
        ("VOLUME /$v /x", {"volumes": ("/base", "/old", "/x")}),
        ("USER $v:0", {"user": "base:0"}),
        ("WORKDIR a/../b\nWORKDIR ./c/", {"working_dir": "/srv/b/c"}), ("WORKDIR //x/../..", {"working_dir": "/"}),
        ("STOPSIGNAL SIGINT", {"stop_signal": "SIGINT"}), ("STOPSIGNAL 9", {"stop_signal": "9"}),
        ("STOPSIGNAL RTMIN+3", {"stop_signal": "RTMIN+3"}),
        ("HEALTHCHECK --retries=2 CMD x", {"healthcheck": Healthcheck(test=("CMD-SHELL", "x"), retries=2)}),
        ("HEALTHCHECK NONE", {"healthcheck": Healthcheck(test=("NONE",))}),
        ("ONBUILD RUN $v\nONBUILD USER x", {"on_build": ("RUN $v", "USER x")}),
        ("MAINTAINER me", {}),
    ],
)  # fmt: skip
def test_an_instruction_changes_the_configuration(lines: str, changes: Mapping[str, object]) -> None:
    assert _config(lines) == dataclasses.replace(IMAGES["base"], **changes)  # type: ignore[arg-type]


def test_an_image_without_path_gets_one() -> None:
    assert _plan("FROM scratch").config.env == (PATH,)
    assert _plan("FROM scratch").target.base == p.Base()


def test_labels_of_the_caller_win() -> None:
    assert _plan("FROM base\nLABEL a=1 b=2", labels={"a": "3"}).config.labels == {"a": "3", "b": "2"}


def test_a_command_sees_env_and_the_arguments_declared_before_it() -> None:
    run = _execute("ARG a=1\nARG b\nARG c\nARG v=arg\nENV w=2\nUSER me\nRUN x\nARG d=3", b="given", HTTP_PROXY="p")
    assert run == Execute(
        args=("/bin/sh", "-c", "x"),
        env=("a=1", "b=given", "PATH=/bin", "v=base", "w=2"),
        arguments=("a=1", "b=given"),
        hidden_env=("HTTP_PROXY=p",),
        user="me",
        cwd="/srv",
    )


def test_the_history_shows_build_arguments() -> None:
    steps = _plan("FROM base\nARG a=1\nRUN x\nENV b=$a").target.steps
    assert [step.created_by for step in steps] == ["ARG a=1", "RUN |1 a=1 /bin/sh -c x", "ENV b=1"]


@pytest.mark.parametrize(
    ("text", "args", "script"),
    [
        ("RUN <<E\na\nb\nE", ("/bin/sh", "-c", "a\nb\n"), ""),
        ("RUN <<-'E'\n\ta\nE", ("/bin/sh", "-c", "a\n"), ""),
        ("RUN <<E\n#!/bin/ash\na\nE", ("/dev/pipes/E",), "#!/bin/ash\na\n"),
        ("RUN cat <<E >x && y\na\nE", ("/bin/sh", "-c", "cat <<E >x && y\na\nE"), ""),
        ("RUN cat <<E - <<-F\na\nE\n\tb\nF", ("/bin/sh", "-c", "cat <<E - <<-F\na\nE\n\tb\nF"), ""),
        ('RUN ["a", "b c"]', ("a", "b c"), ""),
    ],
)  # fmt: skip
def test_a_heredoc_is_a_script_or_goes_to_the_shell(text: str, args: tuple[str, ...], script: str) -> None:
    run = _execute(text)
    assert (run.args, run.script) == (args, script)


def test_copy_expands_its_words_and_resolves_its_destination() -> None:
    assert _copy("COPY --chown=$v:1 --chmod=644 --exclude=*.$v $v x ./") == CopyFiles(
        sources=("base", "x"), destination="/srv/", chown="base:1", chmod="644", excludes=("*.base",)
    )
    assert [_copy(f"COPY a {path}").destination for path in ("b", "/b/", ".", "..", "/", "b/.")] == [
        "/srv/b", "/b/", "/srv/", "/", "/", "/srv/b/"]  # fmt: skip


def test_a_heredoc_of_copy_expands_unless_quoted() -> None:
    text = "COPY <<A <<'B' /\n$v \"it's\" \\$v \\n\nA\n$v\nB"
    assert _copy(text).inline == (
        Inline(name="A", text='base "it\'s" $v \\n\n'),
        Inline(name="B", text="$v\n"),
    )


def test_only_what_the_target_needs_is_planned() -> None:
    text = "FROM none AS unused\nRUN x\nFROM base AS a\nFROM base AS b\nCOPY --from=a x y\nFROM b\nUSER u"
    planned = _plan(text)
    assert [(stage.index, stage.base) for stage in planned.stages] == [
        (1, p.Base(image="base")), (2, p.Base(image="base")), (3, p.Base(stage=2))]  # fmt: skip
    assert [stage.index for stage in _plan(text, target="a").stages] == [1]
    with pytest.raises(DockerfileError, match="Dockerfile:1: no image none"):
        _plan(text, target="unused")


def test_a_stage_is_named_by_copy_and_by_mounts_and_by_number() -> None:
    text = "FROM base AS One\nFROM base\nFROM base\nCOPY --from=one a b\nRUN --mount=from=1,target=/m x"
    steps = _plan(f"{text}\nCOPY --from=base:1.2 a b").target.steps
    assert [dict(step.origins) for step in steps] == [
        {"one": p.Base(stage=0)}, {"1": p.Base(stage=1)}, {"base:1.2": p.Base(image="base:1.2")}]  # fmt: skip


def test_a_stage_inherits_configuration_and_arguments_of_the_stage_below() -> None:
    text = "FROM base AS a\nARG x=1\nENV y=2\nCMD a\nFROM a\nRUN z\nENTRYPOINT e"
    planned = _plan(text)
    action = planned.target.steps[0].action
    assert isinstance(action, Execute)
    assert action.env == ("x=1", "PATH=/bin", "v=base", "y=2")
    assert planned.config.cmd == ()


def test_arguments_before_from_count_for_from_and_where_they_are_declared_again() -> None:
    text = "ARG tag=1.2\nARG name=base:$tag\nFROM $name\nARG tag\nARG name=mine\nENV t=$tag n=$name"
    assert _plan(text).config.env == (PATH, "t=1.2", "n=mine")
    assert _plan(text, name="base").config.env == ("PATH=/bin", "v=base", "t=1.2", "n=base")
    assert _plan("ARG x=1\nFROM base\nENV y=$x").config.env[-1] == "y="


def test_the_platform_is_known_where_it_is_declared() -> None:
    text = "FROM --platform=$BUILDPLATFORM base\nENV a=$TARGETARCH\nARG TARGETARCH\nENV b=$TARGETARCH"
    assert _plan(text).config.env[-2:] == ("a=", "b=amd64")
    with pytest.raises(DockerfileError, match="linux/amd64 only"):
        _plan("FROM --platform=linux/riscv64 base")


def test_triggers_run_after_from_and_are_not_inherited() -> None:
    planned = _plan("FROM trigger AS a\nUSER u\nFROM a")
    first = planned.stages[0]
    assert [step.statement.text for step in first.steps] == ["COPY . /app", "RUN make", "USER u"]
    assert planned.stages[1].steps == ()
    assert planned.config.on_build == ()


def test_arguments_that_nobody_asked_for_are_told() -> None:
    assert _plan("FROM base", x="1", HTTP_PROXY="p").warnings == ("one or more build-args [x] were not consumed",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM $x", "should not be blank"), ("FROM base\nCOPY --from=0 a b", "invalid stage index 0"),
        ("FROM base AS a\nCOPY --from=a a b", "itself"), ("FROM base\nEXPOSE x", "invalid containerPort: x"),
        ("FROM base\nEXPOSE 80-70", "containerPort"), ("FROM base\nEXPOSE 70000", "containerPort"),
        ("FROM base\nSTOPSIGNAL FOO", "invalid signal"), ("FROM base\nENV a=${x?gone}", "gone"),
        ("FROM base\nCOPY $x y", "expands to nothing"), ("FROM base\nRUN --mount=type=ssh x", "not supported"),
        ("FROM base\nRUN --mount=type=cache x", "needs a target"),
        ("FROM base\nRUN --mount=type=tmpfs,id=3,target=/x x", "unexpected key 'id'"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_names_its_line(text: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words) as caught:
        _plan(text)
    assert caught.value.line == text.count("\n") + 1


def test_a_target_is_a_name_or_a_number() -> None:
    found = p.stages(parse_dockerfile("ARG v\nFROM a AS One\nRUN x\nFROM b\nUSER u"))
    assert [p.find_stage(found, target).index for target in ("one", "ONE", "0", "1", "")] == [0, 0, 0, 1, 1]
    assert [len(stage.statements) for stage in found] == [1, 1]
    with pytest.raises(BuildFailed, match="could not be found"):
        p.find_stage(found, "2")


def test_a_key_does_not_change_between_versions() -> None:
    assert p.cache_key("p", ACTION, ("c",)) == "0a35fe7a7e117643c0228a3129b9c6bbbf33b7945bfead713a9104e1416cf230"


@pytest.mark.parametrize(
    ("parent", "action", "content"),
    [
        ("q", ACTION, ("c",)), ("p", dataclasses.replace(ACTION, args=("y",)), ("c",)), ("p", ACTION, ("d",)),
        ("p", dataclasses.replace(ACTION, env=()), ("c",)), ("p", dataclasses.replace(ACTION, user="u"), ("c",)),
        ("p", MakeDirectory(path="/x"), ("c",)),
    ],
)  # fmt: skip
def test_each_input_changes_a_key(parent: str, action: Action, content: tuple[str, ...]) -> None:
    assert p.cache_key(parent, action, content) != p.cache_key("p", ACTION, ("c",))


def test_proxies_and_the_place_of_copied_files_do_not_change_a_key() -> None:
    copy = CopyFiles(sources=("a",), destination="/x")
    moved = dataclasses.replace(copy, sources=("b",), origin="stage")
    assert p.cache_key("p", copy, ("c",)) == p.cache_key("p", moved, ("c",))
    hidden = dataclasses.replace(ACTION, hidden_env=("HTTP_PROXY=x",))
    assert p.cache_key("p", hidden, ()) == p.cache_key("p", ACTION, ())


def test_every_signal_of_this_host_is_one() -> None:
    for each in signal.Signals:
        assert _config(f"STOPSIGNAL {each.name}").stop_signal == each.name


_LINES = st.sampled_from(
    [
        "ARG a", "ARG b=$a", "ENV a=$b", "ENV c ${a:-x}", "RUN --mount=type=cache,target=$a x", "COPY --from=0 $a /b",
        "COPY $c .", "WORKDIR $a", "FROM base AS x", "FROM x", "FROM trigger", "USER ${a?no}", "EXPOSE $a", "VOLUME $c",
        "COPY <<E $a\n$b\nE",
    ]
)  # fmt: skip


@given(st.lists(_LINES, max_size=8), st.dictionaries(st.sampled_from(["a", "b"]), st.text("x1'\"$ "), max_size=2))
def test_no_file_raises_anything_but_a_fault_of_the_user(lines: list[str], build_args: dict[str, str]) -> None:
    with contextlib.suppress(SpecError):
        _plan("\n".join(["FROM base", *lines]), **build_args)
