"""The same Dockerfiles, built by docker's own builder and by ours: configuration and every file's metadata agree.

What differs on purpose stands in the table with its reason.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from lab.container.defaults import ContainerNetwork
from lab.container.engine import Engine
from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.build import BuildRequest, build
from lab.container.image.build_context import ContextSource
from lab.container.image.build_progress import StepTitle
from lab.container.image.build_run import Surroundings
from lab.container.image.store import ImageStore, StoredImage
from lab.container.storage.snapshots import Overlay, mount_overlay, unmount
from lab.errors import LabError
from lab.paths import Paths

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]

# what docker itself makes in every container, not in images
_NOT_OF_THE_IMAGE = (".dockerenv", "dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab")
# of what a container is asked to be when it is created, docker keeps these in images as well
_NOT_OF_THE_SPECIFICATION = (
    "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image",
    "ArgsEscaped",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A Dockerfile, files of its context, flags; what differs on purpose, and why."""

    text: str
    start: str = "FROM busybox"
    files: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    prepare: Callable[[str], None] | None = None
    differs: tuple[str, ...] = ()
    reason: str = ""


def _special(context: str) -> None:
    """Make files with modes, times, links and owners that matter."""
    os.makedirs(f"{context}/d/e", exist_ok=True)
    for name, mode in (("a", 0o751), ("d/b", 0o600), ("d/e/c", 0o777)):
        with open(f"{context}/{name}", "w") as file:
            file.write(name)
        os.chown(f"{context}/{name}", 1234, 2345)
        os.chmod(f"{context}/{name}", mode)
        os.utime(f"{context}/{name}", (1_000_000_000, 1_100_000_000))
    os.chmod(f"{context}/d", 0o2775)
    os.utime(f"{context}/d", (1_000_000_000, 1_200_000_000))
    os.symlink("b", f"{context}/d/link")
    os.symlink("/nowhere", f"{context}/d/broken")
    os.link(f"{context}/d/b", f"{context}/d/hard")


def _set_user_id(context: str) -> None:
    with open(f"{context}/s", "w"):
        os.chmod(f"{context}/s", 0o4755)


def _over(context: str) -> None:
    """Make two directories with the same names for other types of files."""
    for directory in ("d/link", "d/nowhere", "d/both", "over/file", "over/both"):
        os.makedirs(f"{context}/{directory}")
    for name in ("d/file", "d/link/in", "d/both/in", "over/nowhere", "over/file/in", "over/both/more"):
        with open(f"{context}/{name}", "w") as file:
            file.write(name)
    os.symlink("/tmp", f"{context}/over/link")
    os.symlink("nothing", f"{context}/over/alone")
    os.symlink("both", f"{context}/d/alone")


def _links(context: str) -> None:
    for target, name in (("a", "l"), ("d", "ld"), ("e", "d/ld")):
        os.symlink(target, f"{context}/{name}")


def _archives(context: str) -> None:
    _special(context)
    for name, mode in (("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.bz2", "w:bz2"), ("x.xz", "w:xz")):
        with tarfile.open(f"{context}/{name}", mode) as tar:  # type: ignore[call-overload]
            tar.add(f"{context}/d", "top")


FILES = {"a": "1", "d/b": "2", "d/e/c": "3"}
CASES = {
    "env": Case(text="ENV a=1 b='2 3' c=\"$a x\"\nENV d=$a-${b} e=${none:-dflt} f=${a:+plus} g=\\$a\nENV h i j"),
    "env-same-instruction": Case(text="ENV a=1\nENV a=2 b=$a"),
    "arg": Case(text="ARG a=1\nARG b\nARG c=x\nENV d=$a$b$c\nLABEL l=$b",
                flags=("--build-arg", "b=2", "--build-arg", "c=")),
    "arg-hidden-by-env": Case(text="ARG v=arg\nENV v=env\nRUN echo $v > /v\nENV w=$v", flags=("--build-arg", "v=cli")),
    "arg-in-run": Case(text="ARG a=1\nRUN env | grep ^a= > /o", flags=("--build-arg", "a=2 3")),
    "label": Case(text="LABEL a=1 \"b c\"='d e'\nLABEL f g h\nLABEL a=2", flags=("--label", "z=9")),
    "cmd-shell": Case(text="CMD echo $HOME && true"),
    "cmd-exec": Case(text='CMD ["a", "$b", "c d"]'),
    "cmd-empty": Case(text="CMD []"),
    "entrypoint-resets-cmd": Case(text='ENTRYPOINT ["x"]'),
    "entrypoint-after-cmd": Case(text='CMD ["y"]\nENTRYPOINT ["x"]\nCMD z'),
    "entrypoint-shell": Case(text="ENTRYPOINT exec top -b"),
    "shell": Case(text='SHELL ["/bin/sh", "-ec"]\nRUN echo $0 > /o\nCMD x\nENTRYPOINT y'),
    "expose": Case(text='ENV p="80 81/udp"\nEXPOSE $p 443/tcp 9000-9002'),
    "volume": Case(text='VOLUME /a /b\nVOLUME ["/c d", "/a"]\nENV v=/e\nVOLUME $v'),
    "user": Case(text="RUN echo 'me:x:12:34::/h:/bin/sh' >> /etc/passwd\nUSER me\n"
                      "RUN id > /tmp/o; echo $HOME >> /tmp/o"),
    "user-numbers": Case(text="USER 7:8\nRUN id -u > /tmp/o && id -g >> /tmp/o"),
    "workdir": Case(text="WORKDIR /a/b\nWORKDIR c\nENV d=/e\nWORKDIR $d/f\nRUN pwd > o"),
    "workdir-as-user": Case(text="USER 7\nWORKDIR /w/x"),
    "workdir-there": Case(text="WORKDIR /etc\nRUN pwd > /o"),
    "stopsignal": Case(text="ENV s=INT\nSTOPSIGNAL SIG$s"),
    "healthcheck": Case(text="HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --retries=2 CMD a || b"),
    "healthcheck-exec": Case(text='HEALTHCHECK CMD ["a", "b"]'),
    "healthcheck-none": Case(text="HEALTHCHECK NONE"),
    "onbuild": Case(text="ONBUILD RUN echo hi\nONBUILD COPY . /x"),
    "maintainer": Case(text="MAINTAINER me <me@x>"),
    "run-changes": Case(text="RUN rm /etc/shells && mkdir -m 711 /n && touch /n/f && chown 5:6 /n/f && ln -s f /n/l\n"
                             "RUN rm -r /n"),
    "run-replaces": Case(text="RUN mkdir /x && touch /x/1\nRUN rm -r /x && mkdir /x && touch /x/2\n"
                              "RUN rm -r /x && touch /x"),
    "run-special-files": Case(text="RUN mkfifo /p && mknod /n c 1 3 && chmod 1777 /n && touch /a && ln /a /b"),
    "copy-file": Case(text="COPY a /x\nCOPY a /y/\nCOPY a /z/z/z", prepare=_special),
    "copy-set-user-id": Case(text="COPY s /s", prepare=_set_user_id, differs=("s",),
                             reason="docker's classic builder loses the bit by a later chown; BuildKit and we keep it"),
    "copy-directory": Case(text="COPY d /x\nCOPY d/ /y/\nCOPY d /etc", prepare=_special),
    "copy-all": Case(text="COPY . /x/", prepare=_special),
    "copy-wildcard": Case(text="COPY d/* /x/\nCOPY ? /y/", files=FILES),
    "copy-several": Case(text="COPY a d/b /x/", files=FILES),
    "copy-exec-form": Case(text='COPY ["a b", "/x y/"]', files={"a b": "1"}),
    "copy-link": Case(text="COPY l /x\nCOPY ld /y\nCOPY d/ld /z", files=FILES,
                      prepare=_links),
    "copy-to-workdir": Case(text="WORKDIR /w\nCOPY a .\nCOPY a b\nCOPY d ./d\nCOPY d .", files=FILES),
    "copy-over-file": Case(text="RUN echo old > /x && chmod 777 /x\nCOPY a /x", files=FILES),
    "copy-over-link": Case(text="RUN touch /t && ln -s t /x\nCOPY a /x", files=FILES),
    "copy-over-copy": Case(text="COPY d /x/\nCOPY over /x/\nCOPY over /y/\nCOPY d /y/", prepare=_over),
    "copy-to-nowhere": Case(text="RUN ln -s n/m /x && ln -s ../../../o /y && ln -s /p/q /z\nCOPY d /x\nCOPY a /y\n"
                                 "COPY a /z/\nCOPY a d /z/", files=FILES),
    "workdir-nowhere": Case(text="RUN ln -s /n/m /x\nWORKDIR /x/y\nCOPY a .", files=FILES),
    "copy-into-link": Case(text="RUN mkdir /t && ln -s t /x && ln -s /t /y\nCOPY a /x/\nCOPY d /y/", files=FILES),
    "copy-merges": Case(text="RUN mkdir -p /x/e && chmod 700 /x /x/e && touch /x/e/old\nCOPY d /x", prepare=_special),
    "copy-chown": Case(text="RUN echo 'me:x:12:34::/:/bin/sh' >> /etc/passwd\n"
                            "RUN echo -e 'us:x:56:\\nme:x:34:' >> /etc/group\n"
                            "COPY --chown=7:8 d /x\nCOPY --chown=me a /n/y\nCOPY --chown=9 a /z\n"
                            "COPY --chown=me:us a /w",
                       prepare=_special),
    "copy-empty-directory": Case(text="COPY e /x", prepare=lambda c: os.mkdir(f"{c}/e")),
    "copy-ignored": Case(text="COPY . /x", files={**FILES, ".dockerignore": "d\n!d/e\n**/*.o\n",
                                                          "z.o": "1", "d/y.o": "2"}),
    "copy-ignores-dockerfile": Case(text="COPY . /x", files={**FILES, ".dockerignore": "Dockerfile\n.dockerignore\n"}),
    "add-archives": Case(text="ADD x.tar /1\nADD x.tar.gz /2/\nADD x.bz2 /3\nADD x.xz /4", prepare=_archives),
    "add-archive-chown": Case(text="ADD --chown=7:8 x.tar /1", prepare=_archives,
                              differs=("1",), reason="docker's classic builder ignores --chown here"),
    "add-file": Case(text="ADD a /x\nADD d /y", prepare=_special),
    "stages": Case(text="RUN mkdir /o && echo 1 > /o/f && chown 5:6 /o/f && chmod 640 /o/f\nENV e=1\nFROM busybox\n"
                        "COPY --from=0 /o /p\nCOPY --from=0 /o/f /q\nCOPY --from=busybox /etc/passwd /r"),
    "stage-on-stage": Case(start="FROM busybox AS one", text="ENV a=1\nWORKDIR /w\nCMD x\nFROM One\nRUN echo $a > o"),
    "from-argument": Case(start="ARG base=none\nFROM ${base:-x} AS one", text="ARG base\nENV b=$base",
                          flags=("--build-arg", "base=busybox")),
    "target": Case(start="FROM busybox AS one", text="ENV a=1\nFROM busybox\nENV b=2", flags=("--target", "one")),
    "scratch": Case(start="FROM scratch", text="COPY a /\nENV b=2\nWORKDIR /w", files=FILES,
                    differs=("etc",), reason="docker makes it for the container that is looked at"),
    "continuation": Case(text="RUN echo a \\\n  # comment\n  b \\\n\n  c > /o\nENV x=1 \\\n    y=2"),
    "escape": Case(text="RUN echo 'a\\\\nb' > /o && echo \"$((1<<3))\" >> /o"),
}  # fmt: skip


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    paths = Paths.under(str(tmp_path_factory.mktemp("ours")))
    bootstrap(ImageStore.open(paths), BaseImage.BUSYBOX, progress=lambda _: None)
    return paths


def _docker(address: str, *arguments: str) -> bytes:
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(["docker", "-H", address, *arguments], capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


class _Silent:
    def started(self, step: StepTitle) -> None: ...
    def wrote(self, step: StepTitle, data: bytes) -> None: ...
    def finished(self, step: StepTitle, *, cached: bool) -> None: ...
    def failed(self, step: StepTitle, reason: str) -> None: ...
    def noted(self, text: str) -> None: ...


def _built_by_us(paths: Paths, context: str, flags: tuple[str, ...]) -> StoredImage:
    def given(flag: str) -> dict[str, str]:
        return dict(
            value.partition("=")[::2] for name, value in zip(flags[::2], flags[1::2], strict=True) if name == flag
        )

    request = BuildRequest(
        context=ContextSource(location=context),
        names=("case:latest",),
        build_args=given("--build-arg"),
        labels=given("--label"),
        target=next((value for name, value in zip(flags[::2], flags[1::2], strict=True) if name == "--target"), ""),
        surroundings=Surroundings(network=ContainerNetwork.NONE),
    )
    with Engine(paths) as engine:
        return build(paths, engine, request, _Silent())


@dataclass(frozen=True, slots=True)
class _File:
    kind: str
    mode: str
    owner: tuple[int, int]
    content: str
    mtime: int | str


def _files_of_docker(address: str, began: int) -> dict[str, _File]:
    container = _docker(address, "create", "--network=none", "case", "true").decode().strip()
    try:
        data = _docker(address, "export", container)
    finally:
        _docker(address, "rm", container)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return dict(_entry(tar, entry, began) for entry in tar if _counts(entry.name))


def _counts(name: str) -> bool:
    clean = name.removeprefix("./").rstrip("/")
    return bool(clean) and not any(clean == each or clean.startswith(f"{each}/") for each in _NOT_OF_THE_IMAGE)


def _entry(tar: tarfile.TarFile, entry: tarfile.TarInfo, began: int) -> tuple[str, _File]:
    target = tar.getmember(entry.linkname) if entry.islnk() else entry
    content = target.linkname
    if target.isreg():
        file = tar.extractfile(target)
        assert file is not None
        content = hashlib.sha256(file.read()).hexdigest()
    kind = {"0": "file", "2": "link", "3": "char", "5": "directory", "6": "fifo"}[target.type.decode()]
    mtime: int | str = "now" if target.mtime >= began else int(target.mtime)
    if entry.name.rstrip("/") == "etc":  # docker has put its own files there
        mtime = "unknown"
    return entry.name.rstrip("/"), _File(kind, oct(stat.S_IMODE(target.mode)), (target.uid, target.gid), content, mtime)


def _files_of_ours(paths: Paths, image: StoredImage, work: str, began: int) -> dict[str, _File]:
    upper, overlay_work, root = (os.path.join(work, name) for name in ("upper", "work", "root"))
    for path in (upper, overlay_work, root):
        os.mkdir(path)
    layers = ImageStore.open(paths).layer_directories(image.manifest_digest)
    mount_overlay(Overlay(lower=layers, upper=upper, work=overlay_work), root)
    try:
        names = [
            os.path.relpath(os.path.join(parent, name), root)
            for parent, directories, files in os.walk(root)
            for name in (*directories, *files)
        ]
        return {name: _file(os.path.join(root, name), began) for name in names if _counts(name)}
    finally:
        unmount(root)


def _file(path: str, began: int) -> _File:
    status = os.lstat(path)
    content = ""
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFLNK: "link",
        stat.S_IFCHR: "char",
        stat.S_IFDIR: "directory",
        stat.S_IFIFO: "fifo",
    }
    mtime: int | str = "now" if int(status.st_mtime) >= began else int(status.st_mtime)
    if path.endswith("/root/etc"):
        mtime = "unknown"
    mode = oct(stat.S_IMODE(status.st_mode))
    return _File(kinds[stat.S_IFMT(status.st_mode)], mode, (status.st_uid, status.st_gid), content, mtime)


def _configuration_of_docker(address: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(_docker(address, "inspect", "case"))[0]["Config"]
    return {name: value for name, value in found.items() if value and name not in _NOT_OF_THE_SPECIFICATION}


@pytest.mark.parametrize("name", list(CASES))
def test_docker_and_we_build_the_same_image(
    name: str, docker: str, ours: Paths, tmp_path_factory: pytest.TempPathFactory
) -> None:
    case = CASES[name]
    context, work = (str(tmp_path_factory.mktemp(kind)) for kind in ("context", "work"))
    began = int(time.time())
    for path, content in {"Dockerfile": f"{case.start}\n{case.text}\n", **case.files}.items():
        os.makedirs(os.path.dirname(f"{context}/{path}"), exist_ok=True)
        with open(f"{context}/{path}", "w") as file:
            file.write(content)
    if case.prepare is not None:
        case.prepare(context)
    _docker(docker, "build", "--network=none", "-t", "case", *case.flags, context)
    image = _built_by_us(ours, context, case.flags)
    theirs, mine = _configuration_of_docker(docker), image.config.config.to_document()
    assert {key: value for key, value in mine.items() if key not in case.differs} == {
        key: value for key, value in theirs.items() if key not in case.differs
    }
    theirs_files, our_files = _files_of_docker(docker, began), _files_of_ours(ours, image, work, began)
    kept = sorted(path for path in {*theirs_files, *our_files} if not _differs(case, path))
    unlike = [path for path in kept if theirs_files.get(path) != our_files.get(path)]
    told = [f"{path}: docker {theirs_files.get(path)}, we {our_files.get(path)}" for path in unlike]
    assert not told, "\n".join(told)


def _differs(case: Case, path: str) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in case.differs)


REFUSED = {
    "unknown-instruction": "FOO bar",
    "copy-missing": "COPY none /x",
    "copy-wildcard-matching-nothing": "COPY none* /x",
    "copy-one-argument": "COPY a",
    "copy-several-to-a-file": "COPY a b /x",
    "copy-from-itself": "COPY --from=0 a b",
    "run-fails": "RUN exit 7",
    "env-without-value": "ENV a",
    "env-malformed": "ENV a=1 b",
    "expose-nonsense": "EXPOSE nonsense",
    "stopsignal-nonsense": "STOPSIGNAL NONSENSE",
    "healthcheck-nonsense": "HEALTHCHECK nonsense",
    "healthcheck-short": "HEALTHCHECK --interval=1us CMD x",
    "onbuild-chained": "ONBUILD ONBUILD RUN x",
    "shell-not-json": "SHELL sh",
    "substitution-malformed": "ENV a=${x",
    "substitution-required": "ENV a=${x:?needed}",
    "user-unknown": "USER nobody-there\nRUN true",
    "chown-unknown": "COPY --chown=nobody-there a /x",
    "unknown-flag": "COPY --nonsense a /x",
    "from-three-words": "FROM a b",
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_docker_refuses_we_refuse_with_the_same_code(
    name: str, docker: str, ours: Paths, tmp_path_factory: pytest.TempPathFactory
) -> None:
    context = str(tmp_path_factory.mktemp("context"))
    for path, content in {"Dockerfile": f"FROM busybox\n{REFUSED[name]}\n", "a": "1", "b": "2"}.items():
        with open(f"{context}/{path}", "w") as file:
            file.write(content)
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    argv = ["docker", "-H", docker, "build", "--network=none", context]
    theirs = subprocess.run(argv, capture_output=True, env=environment, timeout=120)
    with pytest.raises(LabError) as caught:
        _built_by_us(ours, context, ())
    assert theirs.returncode == caught.value.exit_code, theirs.stderr.decode()
