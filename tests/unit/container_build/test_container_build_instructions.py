"""The arguments of each instruction are typed, or refused with their line."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.image import instructions as i
from lab.container.image.dockerfile import Keyword, parse_dockerfile
from lab.container.spec.image import Healthcheck
from lab.errors import EXIT_FAILURE, DockerfileError


def _body(line: str) -> i.Body:
    return i.understand(parse_dockerfile(f"FROM a\n{line}").instructions[1]).body


def _command(*words: str, shell: bool = True) -> i.CommandLine:
    return i.CommandLine(words=words, shell=shell)


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("ARG a b=1 c='x y'", i.Arg(items=(("a", None), ("b", "1"), ("c", "'x y'")))),
        ("ENV a=1 b='2 3' c=4\\ 5", i.Env(pairs=(("a", "1"), ("b", "'2 3'"), ("c", "4\\ 5")))),
        ("ENV a  1 2 'x' ", i.Env(pairs=(("a", "1 2 'x'"),))),
        ("ENV a b=c", i.Env(pairs=(("a", "b=c"),))),
        ("LABEL a=b c=", i.Label(pairs=(("a", "b"), ("c", "")))),
        ("RUN a   'b", i.Run(command=_command("a   'b"))),
        ('RUN ["a", "b"]', i.Run(command=_command("a", "b", shell=False))),
        ("RUN --network=none --mount=type=tmpfs,target=/x true",
         i.Run(command=_command("true"), mounts=("type=tmpfs,target=/x",), network="none")),
        ("CMD", i.Cmd(command=_command())),
        ('CMD []', i.Cmd(command=_command(shell=False))),
        ('ENTRYPOINT ["a"]', i.Entrypoint(command=_command("a", shell=False))),
        ("COPY a b c/", i.Copy(sources=("a", "b"), destination="c/")),
        ('COPY ["a b", "c"]', i.Copy(sources=("a b",), destination="c")),
        ("COPY --from=x --chown=1:2 --chmod=644 --link --parents --exclude=*.o --exclude=y a b",
         i.Copy(sources=("a",), destination="b", origin="x", chown="1:2", chmod="644", link=True, parents=True,
                excludes=("*.o", "y"))),
        ("ADD --checksum=sha256:1 --keep-git-dir=true a b",
         i.Copy(sources=("a",), destination="b", unpacks=True, checksum="sha256:1", keep_git_dir=True)),
        ("EXPOSE 80 $x/udp", i.Expose(ports=("80", "$x/udp"))),
        ('VOLUME ["/a", "/b c"]', i.Volume(paths=("/a", "/b c"))),
        ("VOLUME /a /b", i.Volume(paths=("/a", "/b"))),
        ("USER a:b", i.User(name="a:b")),
        ("WORKDIR /a b", i.Workdir(path="/a b")),
        ("STOPSIGNAL SIGINT", i.Stopsignal(signal="SIGINT")),
        ('SHELL ["a", "-c"]', i.Shell(words=("a", "-c"))),
        ("HEALTHCHECK NONE", i.Health(check=Healthcheck(test=("NONE",)))),
        ("HEALTHCHECK --interval=1m30s --timeout=5s --start-period=1s --start-interval=2s --retries=4 cmd x y",
         i.Health(check=Healthcheck(test=("CMD-SHELL", "x y"), interval=90_000_000_000, timeout=5_000_000_000,
                                    start_period=1_000_000_000, start_interval=2_000_000_000, retries=4))),
        ('HEALTHCHECK --interval=0 CMD ["x", "y"]', i.Health(check=Healthcheck(test=("CMD", "x", "y")))),
        ("ONBUILD COPY --from=x a b", i.Onbuild(trigger="COPY --from=x a b")),
        ("ONBUILD RUN <<E\nx\nE", i.Onbuild(trigger="RUN <<E\nx\nE")),
        ("MAINTAINER a b", i.Maintainer(name="a b")),
    ],
)  # fmt: skip
def test_arguments_are_understood(line: str, body: i.Body) -> None:
    assert _body(line) == body


def test_a_heredoc_is_a_source_of_copy() -> None:
    body = _body("COPY <<a.txt x <<'b' /d/\n1\na.txt\n2\nb")
    assert isinstance(body, i.Copy)
    assert (body.sources, body.destination) == (("x",), "/d/")
    assert [(each.name, each.content, each.expand) for each in body.heredocs] == [
        ("a.txt", "1\n", True),
        ("b", "2\n", False),
    ]


def test_a_trigger_becomes_the_instruction_that_it_holds() -> None:
    start = parse_dockerfile("FROM base").instructions[0]
    found = i.parse_trigger("RUN <<E\nx\nE", start)
    assert (found.source.keyword, found.source.heredocs[0].content) == (Keyword.RUN, "x\n")
    with pytest.raises(DockerfileError, match="FROM isn't allowed"):
        i.parse_trigger("FROM x", start)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        *((f"{name}", "requires at least one argument") for name in ("ENV", "LABEL", "ONBUILD", "HEALTHCHECK", "EXPOSE",
                                                                     "VOLUME", "ARG", "SHELL")),
        *((f"{name}", "requires exactly one argument") for name in ("MAINTAINER", "WORKDIR", "USER", "STOPSIGNAL")),
        ("ADD x", "at least two arguments"), ("COPY x", "at least two arguments"), ("RUN", "requires a command"),
        ("ENV a", "must have two arguments"), ("ENV =b", "can not be blank"), ("ENV a=b c", "can't find = in 'c'"),
        ("LABEL a", "must have two arguments"), ("ARG =b", "can not be blank"), ("VOLUME [\"\"]", "empty string"),
        ("SHELL x", "JSON"), ("HEALTHCHECK FOO x", "Unknown type 'FOO'"), ("HEALTHCHECK CMD", "Missing command"),
        ("HEALTHCHECK NONE x", "takes no arguments"), ("HEALTHCHECK --interval=50ns CMD x", "less than 1ms"),
        ("HEALTHCHECK --interval=x CMD x", "not a duration"), ("HEALTHCHECK --retries=-1 CMD x", "negative"),
        ("HEALTHCHECK --retries=x CMD x", "not a number"), ("ONBUILD ONBUILD RUN x", "Chaining"),
        ("ONBUILD FROM x", "isn't allowed"), ("ONBUILD MAINTAINER x", "isn't allowed"),
        ("ONBUILD FOO", "unknown instr"),
        ("ONBUILD COPY x", "at least two"), ("RUN --network=x true", "invalid network mode"),
        ("RUN --security=insecure true", "not supported"), ("COPY --from=a --from=b x y", "Duplicate flag"),
        ("COPY x <<E\nE", "here-document as its destination"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(line: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words) as caught:
        _body(line)
    assert (caught.value.line, caught.value.exit_code) == (2, EXIT_FAILURE)


@given(
    st.sampled_from(list(Keyword)),
    st.lists(st.sampled_from(["a", "=", '"', "'", "\\", " ", "[", "]", ",", "<<E", "\nE\n", "--from=x", "$"])),
)
def test_no_arguments_raise_anything_else(keyword: Keyword, parts: list[str]) -> None:
    with contextlib.suppress(DockerfileError):
        _body(f"{keyword} {''.join(parts)}")
