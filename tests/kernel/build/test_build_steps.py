"""Instructions do to an image's files what docker's do."""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from lab.container.defaults import ContainerNetwork
from lab.container.image.build_run import Surroundings
from lab.container.storage.walk import walk
from lab.errors import BuildFailed, DockerfileError

if TYPE_CHECKING:
    from conftest import Yard

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]


def test_a_command_leaves_what_it_has_changed_and_nothing_else(yard: Yard) -> None:
    image = yard.build("RUN echo hi > /made && rm /etc/shells\nRUN true")
    assert yard.changed(image, 1) == ["etc", "etc/shells", "made"]
    assert yard.changed(image, 2) == []
    files = yard.files(image)
    assert files["made"].content == "hi\n"
    assert "etc/shells" not in files


def test_a_tree_deeper_than_a_path_is_long_becomes_a_layer_and_is_removed(yard: Yard) -> None:
    deepen = "RUN i=0; while [ $i -lt 2500 ]; do mkdir d && cd d; i=$((i+1)); done; touch f"
    image = yard.build(f"{deepen}\nRUN test -d /d/d/d")
    with yard.root(image) as root:
        assert sum(found.path.startswith("d/") for found in walk(root)) > 2000  # where the shell gives up
    yard.store.remove("built")
    yard.cache.prune()
    assert (yard.cache.size_bytes(), os.listdir(yard.paths.containers)) == (0, [])


def test_a_command_runs_as_user_in_directory_and_with_variables(yard: Yard) -> None:
    yard.build(
        "RUN echo 'me:x:12:34::/home/me:/bin/sh' >> /etc/passwd\nUSER me\nWORKDIR /a/b\nENV E=env\nARG A=arg\n"
        "RUN id -u && id -g && pwd && echo $E $A $HOME && echo oops >&2"
    )
    assert yard.seen.output == "12\n34\n/a/b\nenv arg /home/me\noops\n"


def test_a_command_finds_names_and_leaves_none_of_the_files_for_that(yard: Yard) -> None:
    around = Surroundings(network=ContainerNetwork.NONE, hosts=(("somewhere", "10.9.8.7"),))
    image = yard.build("RUN rm -f /etc/shells; cat /etc/hosts /etc/resolv.conf; hostname", surroundings=around)
    assert "10.9.8.7\tsomewhere\n" in yard.seen.output
    assert "nameserver" in yard.seen.output
    assert yard.changed(image) == ["etc", "etc/shells"]


def test_a_heredoc_is_run(yard: Yard) -> None:
    yard.build("RUN <<A\necho one\necho two\nA\nRUN <<A\n#!/bin/cat\nthree\nA\nRUN cat <<A - | tr a-z A-Z\nfour\nA")
    assert yard.seen.output == "one\ntwo\n#!/bin/cat\nthree\nFOUR\n"


def test_the_shell_can_be_another(yard: Yard) -> None:
    yard.build('SHELL ["/bin/echo", "shell:"]\nRUN a b')
    assert yard.seen.output == "shell: a b\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("COPY a /x", {"x": "1"}), ("COPY a /x/", {"x/a": "1"}),
        ("COPY a d /x/", {"x/a": "1", "x/b": "2", "x/e/c": "3"}),
        ("COPY d /x", {"x/b": "2", "x/e/c": "3"}), ("COPY d/ /x/", {"x/b": "2", "x/e/c": "3"}),
        ("COPY d/* /x/", {"x/b": "2", "x/c": "3"}), ("COPY . /x", {"x/a": "1", "x/d/b": "2", "x/d/e/c": "3"}),
        ("COPY [ab] /x/", {"x/a": "1"}), ("COPY ../../d/b /x", {"x": "2"}),
        ("COPY --parents d/e/c /x/", {"x/d/e/c": "3"}),
        ("COPY --parents d/./e/c /x/", {"x/e/c": "3"}), ("COPY --exclude=e d /x", {"x/b": "2"}),
        ("COPY --exclude=**/c . /x/", {"x/a": "1", "x/d/b": "2"}), ("WORKDIR /x\nCOPY a .", {"x/a": "1"}),
        ("COPY <<F /x\nin $HOME \"q\"\nF", {"x": "in  \"q\"\n"}), ("COPY <<F a <<'G' /x/\n1\nF\n$2\nG",
         {"x/a": "1", "x/F": "1\n", "x/G": "$2\n"}), ("ADD a /x/", {"x/a": "1"}),
        ('COPY ["d/b", "/x y"]', {"x y": "2"}),
    ],
)  # fmt: skip
def test_files_are_copied_to_where_docker_copies_them(yard: Yard, line: str, expected: dict[str, str]) -> None:
    image = yard.build(line, {"a": "1", "d/b": "2", "d/e/c": "3"})
    files = yard.files(image)
    changed = [path for path in yard.changed(image) if not files[path].mode.startswith("d")]
    assert {path: files[path].content for path in changed} == expected


def test_what_is_copied_belongs_to_root_and_keeps_mode_and_time(yard: Yard) -> None:
    yard.write({"a": "1"})
    path = os.path.join(yard.context, "a")
    os.chown(path, 7, 8)
    os.chmod(path, 0o4751)
    os.utime(path, (1000, 2000))
    os.symlink("nowhere", os.path.join(yard.context, "l"))
    os.link(path, os.path.join(yard.context, "h"))
    image = yard.build("COPY . /x")
    files = yard.files(image, "x")
    assert (files["a"].mode, files["a"].owner, files["a"].mtime_s) == ("-rwsr-x--x", (0, 0), 2000)
    assert (files["l"].mode[0], files["l"].content) == ("l", "nowhere")
    with yard.root(image) as root:
        assert os.lstat(f"{root}/x/a").st_ino == os.lstat(f"{root}/x/h").st_ino


def test_owner_and_mode_can_be_given(yard: Yard) -> None:
    image = yard.build(
        "RUN echo 'me:x:12:34::/:/bin/sh' >> /etc/passwd && echo 'us:x:56:' >> /etc/group\n"
        "COPY --chown=me:us --chmod=640 a /new/a\nCOPY --chown=me a /b\nCOPY --chown=7 --chmod=u=rwX,go= d /c",
        {"a": "1", "d/e": "2"},
    )
    files = yard.files(image)
    assert [files[path].owner for path in ("new", "new/a", "b", "c", "c/e")] == [
        (12, 56), (12, 56), (12, 34), (7, 7), (7, 7)]  # fmt: skip
    assert [files[path].mode for path in ("new", "new/a", "c", "c/e")] == [
        "drwxr-xr-x", "-rw-r-----", "drwx------", "-rw-------"]  # fmt: skip
    with pytest.raises(BuildFailed, match="unable to find user nobody-there"):
        yard.build("COPY --chown=nobody-there a /b")


def test_files_come_from_another_stage_with_their_owners(yard: Yard) -> None:
    image = yard.build(
        "FROM busybox AS make\nRUN mkdir /o && echo 1 > /o/a && chown 5:6 /o/a && ln -s /o/a /o/l\n"
        "FROM busybox\nCOPY --from=make /o /p\nCOPY --from=0 /o/l /q\nCOPY --from=busybox /etc/passwd /r"
    )
    files = yard.files(image)
    assert (files["p/a"].owner, files["p/l"].content, files["q"].content) == ((5, 6), "/o/a", "1\n")
    assert files["r"].content == files["etc/passwd"].content
    assert len(image.layers) == 4


def test_an_archive_is_unpacked_and_copied_only_by_add(yard: Yard) -> None:
    yard.write({"t/a": "1", "t/d/b": "2"})
    for name, mode in (("x.tar", "w"), ("x.tgz", "w:gz"), ("x.bin", "w:xz")):
        with tarfile.open(os.path.join(yard.context, name), mode) as tar:  # type: ignore[call-overload]
            tar.add(os.path.join(yard.context, "t"), "top", filter=_owned)
    image = yard.build("ADD x.tar /1\nADD x.tgz /2/\nADD x.bin /3/\nCOPY x.tar /4")
    files = yard.files(image)
    for directory in ("1", "2", "3"):
        assert (files[f"{directory}/top/d/b"].content, files[f"{directory}/top/a"].owner) == ("2", (9, 9))
    assert files["4"].mode[0] == "-"


def _owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 9
    return entry


def test_no_link_leads_out_of_context_or_image(yard: Yard, tmp_path: object) -> None:
    os.symlink("/etc/passwd", os.path.join(yard.context, "out"))
    os.symlink("a", os.path.join(yard.context, "in"))
    with pytest.raises(BuildFailed, match="not found"):
        yard.build("COPY out /x", {"a": "1"})
    outside = os.path.join(yard.paths.root, "outside")
    image = yard.build(f"RUN ln -s {outside} /leads && ln -s /real /abs && mkdir /real\nCOPY in /abs/x\nCOPY in /y")
    assert {"real/x", "y"} <= set(yard.files(image))
    image = yard.build(f"RUN ln -s {outside} /leads\nCOPY in /leads/x")
    assert f"{outside[1:]}/x" in yard.files(image)
    assert not os.path.exists(outside)


def test_a_copy_replaces_what_has_its_name_and_follows_links_of_its_destination_only(yard: Yard) -> None:
    files = {"x/f/g": "1", "x/l/h": "2", "x/d": "3", "y": "4"}
    image = yard.build("RUN mkdir -p /x/d/e /t && touch /x/f && ln -s /t /x/l && ln -s gone /x/n\nCOPY x /x\n"
                       "COPY y /x/n\nCOPY x/l /x/l", files)  # fmt: skip
    found = yard.files(image)
    assert {path: each.content for path, each in found.items() if path.startswith("x/") and each.mode[0] != "d"} == {
        "x/f/g": "1", "x/l/h": "2", "x/d": "3", "x/n": "gone", "x/gone": "4"}  # fmt: skip
    assert "t/h" not in found
    with pytest.raises(BuildFailed, match="round in circles"):
        yard.build("RUN ln -s o /o\nCOPY y /o/y", files)


def test_the_ignore_file_decides_what_is_in_the_context(yard: Yard) -> None:
    files = {".dockerignore": "*.o\nd\n!d/keep\n", "a": "1", "b.o": "2", "d/keep": "3", "d/drop": "4"}
    image = yard.build("COPY . /x", files)
    assert sorted(path for path in yard.changed(image) if path.startswith("x/")) == [
        "x/.dockerignore", "x/a", "x/d", "x/d/keep"]  # fmt: skip
    with pytest.raises(BuildFailed, match="dockerignore excludes it") as caught:
        yard.build("COPY b.o /x")
    assert "!PATTERN" in caught.value.hint


def test_an_image_can_be_built_from_nothing(yard: Yard) -> None:
    image = yard.build('FROM scratch\nCOPY a /\nWORKDIR /w\nCMD ["/a"]', {"a": "1"})
    assert sorted(yard.files(image)) == ["a", "w"]
    assert image.config.config.cmd == ("/a",)


def test_triggers_run_on_top_of_the_image_that_has_them(yard: Yard) -> None:
    yard.build("ONBUILD COPY a /on\nONBUILD RUN cat /on", {"a": "1"}, names=("with-triggers:latest",))
    image = yard.build("FROM with-triggers:latest\nRUN true")
    assert yard.seen.output == "1"
    assert yard.files(image)["on"].content == "1"
    assert image.config.config.on_build == ()


def test_history_and_configuration_tell_what_was_done(yard: Yard) -> None:
    image = yard.build("MAINTAINER me\nARG a=1\nENV b=2\nRUN true\nEXPOSE 80\nCMD x", labels={"l": "v"})
    history = image.config.history[-6:]
    assert [(each.created_by, each.empty_layer) for each in history] == [
        ("MAINTAINER me", True), ("ARG a=1", True), ("ENV b=2", True), ("RUN |1 a=1 /bin/sh -c true", False),
        ("EXPOSE 80", True), ('CMD ["/bin/sh", "-c", "x"]', True)]  # fmt: skip
    assert image.config.author == "me"
    assert image.config.config.labels["l"] == "v"
    assert image.config.config.exposed_ports == ("80/tcp",)
    assert image.config.created == history[-1].created


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("RUN echo why; exit 7", 7, r"Dockerfile:2: RUN echo why; exit 7: the command '/bin/sh -c echo why; exit 7' "
                                    r"returned a non-zero code: 7"),
        ('RUN ["/none"]', 1, "Dockerfile:2: .*/none"),
        ("COPY none /x", 1, "Dockerfile:2: .*not found in build context"),
        ("COPY *.none /x", 1, "no source files"), ("USER none\nRUN true", 1, "Dockerfile:3: .*none"),
        ("COPY a b /x", 1, "needs a directory"), ("ADD --checksum=sha256:0 http://127.0.0.1:1/x /", 1, "cannot fetch"),
        ("COPY --chmod=x a /x", 1, "invalid --chmod"), ("RUN --mount=type=secret,id=s,required true", 1, "secret s"),
    ],
)  # fmt: skip
def test_a_failure_names_file_line_command_and_code(yard: Yard, text: str, code: int, words: str) -> None:
    with pytest.raises(BuildFailed, match=words) as caught:
        yard.build(text, {"a": "1", "b": "2"})
    assert caught.value.exit_code == code
    assert len(yard.seen.failed) == 1


def test_what_is_wrong_with_the_file_is_told_before_anything_is_made(yard: Yard) -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:3: unknown instruction: RUM"):
        yard.build("RUN true\nRUM x")
    with pytest.raises(DockerfileError, match=r"Dockerfile:2: .*not-there"):
        yard.build("FROM busybox\nFROM not-there")
    assert yard.seen.made == []
