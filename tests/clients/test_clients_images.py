"""Images between docker, skopeo and the lab: what one saves the others load, the same file by file.

What differs on purpose: steps of an image built by docker keep no images of their own here (``<missing>`` in
``history``), ``save`` says the missing image's name with its tag, what is no archive is told in our words, the error of
a wrong field in a list's template names no type of Go, and an empty archive is refused by ``import``.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.container.image.store import ImageStore
from lab.container.storage.changes import changes
from lab.linux import command
from lab.paths import Paths
from lab.target.backends.dockerd import PrivateDaemon

pytestmark = [pytest.mark.root, pytest.mark.needs("docker")]

DOCKERFILE = """FROM scratch
ADD tree.tar /
COPY hosts /etc/hosts
ENV A=b
LABEL role=test
EXPOSE 80
CMD ["/bin/tool"]
"""


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    base = tmp_path_factory.mktemp("docker")
    daemon = PrivateDaemon(Paths(root=str(base), cache=str(base / "cache"), run=str(base / "run")))
    daemon.start()
    try:
        yield ("docker", "-H", f"unix://{daemon.socket}")
    finally:
        daemon.stop()


def run(*argv: str) -> str:
    done = command.run(argv, timeout_s=120)
    assert done.exit_code == 0, done.error_text
    return done.text


def lab(paths: Paths, *arguments: str) -> str:
    return run(sys.executable, "-m", "lab", "--root", paths.root, "image", *arguments)


def make_tree(base: Path) -> None:
    """Make files of every kind that a layer can hold."""
    (base / "bin").mkdir(parents=True)
    (base / "dir/deep").mkdir(parents=True)
    os.chmod(base / "dir", 0o2750)
    (base / "bin/tool").write_bytes(b"x" * 100_000)
    os.chmod(base / "bin/tool", 0o4755)
    os.link(base / "bin/tool", base / "dir/hard")
    os.symlink("/bin/tool", base / "dir/soft")
    os.symlink("nowhere", base / "dangling")
    os.mknod(base / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(base / "pipe")
    (base / "owned").write_text("x")
    os.chown(base / "owned", 1000, 1001)
    os.setxattr(base / "owned", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    (base / "n\u00e4me with space").write_text("x")
    with open(base / "sparse", "wb") as file:
        file.truncate(4 * 1024**2)
    for path in (*base.rglob("*"), base):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)


def built_by_docker(docker: tuple[str, ...], tmp_path: Path) -> str:
    context = tmp_path / "context"
    context.mkdir()
    make_tree(tmp_path / "tree")
    run("tar", "cf", str(context / "tree.tar"), "--xattrs", "-C", str(tmp_path / "tree"), ".")
    (context / "hosts").write_text("127.0.0.1 localhost\n")
    (context / "Dockerfile").write_text(DOCKERFILE)
    done = command.run(
        [*docker, "build", "-q", "-t", "it:1", str(context)], env={"DOCKER_BUILDKIT": "0"} | dict(os.environ)
    )
    assert done.exit_code == 0, done.error_text
    return done.text


def seen(root: str) -> dict[str, tuple[object, ...]]:
    """Return what every path below a root is."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = Path(path).read_bytes() if stat.S_ISREG(status.st_mode) else b""
            target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
            names_of_attributes = os.listxattr(path, follow_symlinks=False)
            attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in names_of_attributes}
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
            found[os.path.relpath(path, root)] = (
                *(status.st_mode, status.st_uid, status.st_gid, status.st_rdev, int(status.st_mtime), size),
                *(content, target, attributes),
            )
    return found


def docker_layers(docker: tuple[str, ...], name: str) -> list[str]:
    """Return docker's own directories of an image's layers, lowest first."""
    data = json.loads(run(*docker, "image", "inspect", "--format", "{{json .GraphDriver.Data}}", name))
    return [*reversed(data.get("LowerDir", "").split(":") if data.get("LowerDir") else []), data["UpperDir"]]


def our_layers(paths: Paths, name: str) -> list[str]:
    return list(reversed(ImageStore.open(paths).layer_directories(name)))


def test_what_docker_saves_is_the_same_here_file_by_file(
    docker: tuple[str, ...], tmp_path: Path, fresh_paths: Paths
) -> None:
    image_id = built_by_docker(docker, tmp_path)
    archive = str(tmp_path / "it.tar")
    run(*docker, "save", "-o", archive, "it:1")
    assert lab(fresh_paths, "load", "-i", archive) == "Loaded image: it:1"
    assert lab(fresh_paths, "ls", "--quiet", "--no-trunc") == image_id
    theirs, ours = docker_layers(docker, "it:1"), our_layers(fresh_paths, "it:1")
    assert len(theirs) == len(ours) == 2
    for one, other in zip(theirs, ours, strict=True):
        assert seen(one) == seen(other)


def test_what_the_lab_saves_is_the_same_in_docker_file_by_file(
    docker: tuple[str, ...], tmp_path: Path, fresh_paths: Paths
) -> None:
    make_tree(tmp_path / "tree")
    run("tar", "cf", str(tmp_path / "tree.tar"), "--xattrs", "-C", str(tmp_path / "tree"), ".")
    image_id = lab(fresh_paths, "import", "-c", "ENV A=b", str(tmp_path / "tree.tar"), "ours:1")
    archive = str(tmp_path / "ours.tar")
    lab(fresh_paths, "save", "-o", archive, "ours:1")
    assert run(*docker, "load", "-i", archive) == "Loaded image: ours:1"
    assert run(*docker, "image", "inspect", "--format", "{{.Id}}", "ours:1") == image_id
    (theirs,), (ours,) = docker_layers(docker, "ours:1"), our_layers(fresh_paths, "ours:1")
    assert seen(theirs) == seen(ours)
    assert seen(ours).keys() == seen(str(tmp_path / "tree")).keys()


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_the_lab_saves_and_the_lab_what_skopeo_writes(
    docker: tuple[str, ...], tmp_path: Path, fresh_paths: Paths, form: str
) -> None:
    built_by_docker(docker, tmp_path)
    archive, copy = str(tmp_path / "it.tar"), str(tmp_path / "copy.tar")
    run(*docker, "save", "-o", archive, "it:1")
    lab(fresh_paths, "load", "-i", archive)
    image = ImageStore.open(fresh_paths).resolve("it:1")
    lab(fresh_paths, "save", "-o", archive, "it:1")
    run("skopeo", "--insecure-policy", "copy", f"{form}:{archive}:it:1", f"{form}:{copy}:other:2")
    other = Paths.under(fresh_paths.root + "/other")
    assert lab(other, "load", "-i", copy) == "Loaded image: other:2"
    loaded = ImageStore.open(other).resolve("other:2")
    assert loaded.config_digest == image.config_digest
    for one, two in zip(our_layers(fresh_paths, "it:1"), our_layers(other, "other:2"), strict=True):
        assert seen(one) == seen(two)


def test_saving_by_a_bare_name_takes_all_its_tags_and_by_id_none(
    docker: tuple[str, ...], tmp_path: Path, fresh_paths: Paths
) -> None:
    built_by_docker(docker, tmp_path)
    run(*docker, "tag", "it:1", "it:2")
    theirs, ours = tmp_path / "theirs.tar", tmp_path / "ours.tar"
    run(*docker, "save", "-o", str(theirs), "it")
    lab(fresh_paths, "load", "-i", str(theirs))
    lab(fresh_paths, "save", "-o", str(ours), "it")
    assert tags_in(ours) == tags_in(theirs) == [["it:1", "it:2"]]
    image_id = lab(fresh_paths, "ls", "--quiet", "it:1")
    lab(fresh_paths, "save", "-o", str(ours), image_id)
    assert tags_in(ours) == [None]


def tags_in(archive: Path) -> list[object]:
    with tarfile.open(archive) as tar:
        content = tar.extractfile("manifest.json")
        assert content is not None
        return [sorted(entry["RepoTags"]) if entry["RepoTags"] else None for entry in json.load(content)]


INSPECTED = ("Id", "RepoTags", "Created", "Architecture", "Os", "Size", "RootFS", "Config")
SAME_WORDS = [
    ("images",),
    ("images", "--digests"),
    ("images", "-q"),
    ("images", "--no-trunc"),
    ("images", "it:*"),
    ("images", "i"),
    ("images", "-f", "label=role=test"),
    ("images", "-f", "label=role=other"),
    ("images", "-f", "dangling=true"),
    ("images", "-f", "reference=i?:1"),
    ("images", "--format", "{{.Repository}}|{{.Tag}}|{{.ID}}|{{.Size}}|{{.CreatedAt}}"),
    ("images", "--format", "json"),
    ("images", "--format", "table {{.ID}}\t{{.Tag}}"),
    ("images", "--format", "{{"),
    ("images", "-f", "nope=1"),
    ("images", "-f", "since=none"),
    ("history", "--format", "{{.CreatedBy}}|{{.Size}}|{{.Comment}}", "it:1"),
    ("history", "--format", "{{.CreatedBy}}|{{.CreatedAt}}", "--no-trunc", "-H=false", "it:1"),
    ("history", "nope"),
    ("image", "inspect", "--format", "{{.Id}} {{.RepoTags}} {{.Config.Env}}", "it:1"),
    ("image", "inspect", "--format", "{{.Nope}}", "it:1"),
    ("image", "inspect", "--format", "{{", "it:1"),
    ("image", "inspect", "nope"),
    ("tag", "nope", "x"),
    ("tag", "it:1", "BAD"),
    ("tag", "it:1", "it@sha256:" + "0" * 64),
    ("tag", "it:1", "a.b:5000/x/y"),
    ("rmi", "nope", "a.b:5000/x/y"),
    ("rmi", "it:1"),
    ("rmi", "it:1"),
    ("load", "-i", "/nowhere"),
    ("import", "/nowhere"),
    ("import", "-c", "RUN x", "/etc/hostname"),
    ("image", "prune", "-f"),
    ("image", "prune", "-f", "--filter", "nope=x"),
]


def test_the_same_commands_give_the_same_words_and_exit_codes(
    docker: tuple[str, ...], tmp_path: Path, fresh_paths: Paths
) -> None:
    run(*docker, "system", "prune", "-af")
    built_by_docker(docker, tmp_path)
    archive = str(tmp_path / "it.tar")
    run(*docker, "save", "-o", archive, "it:1")
    run(*docker, "rmi", "it:1")  # with the images of its steps, which nobody else has
    run(*docker, "load", "-i", archive)
    lab(fresh_paths, "load", "-i", archive)
    assert told(run(*docker, "image", "inspect", "it:1")) == told(lab(fresh_paths, "inspect", "it:1"))
    different = [pair for words in SAME_WORDS if (pair := compared(docker, fresh_paths, words))]
    assert not different, "\n\n".join(different)


def told(inspected: str) -> dict[str, object]:
    """Return what both tell of an image; docker's builder also notes the image of the step before."""
    (document,) = json.loads(inspected)
    document["Config"]["Image"] = ""
    return {key: document[key] for key in INSPECTED}


def compared(docker: tuple[str, ...], paths: Paths, words: tuple[str, ...]) -> str:
    """Return what both say, "" if it is the same."""
    ours_words = ("image", OURS.get(words[0], words[0]), *words[1:]) if words[0] != "image" else words
    theirs = said(command.run([*docker, *words]))
    ours = said(command.run([sys.executable, "-m", "lab", "--root", paths.root, *ours_words]))
    return "" if theirs == ours else f"{' '.join(words)}\ndocker: {theirs}\nlab:    {ours}"


OURS = {"images": "ls", "rmi": "rm"}
PREFIXES = ("Error response from daemon: ", "lab: ", "no such image: nope: ")


AGE = re.compile(r"(?:About an? \w+|Less than a second|\d+ \w+) ago *")
HEADING = re.compile(r"CREATED +(?=SIZE)")  # as wide as the ages below it


def said(done: command.Completed) -> tuple[int, str, str]:
    """Return what was said without the ways in which each program introduces itself, gives hints and tells the time."""
    return (done.exit_code, *("\n".join(_lines(stream.decode())) for stream in (done.stdout, done.stderr)))


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        for prefix in PREFIXES:
            line = line.removeprefix(prefix)
        if not line.startswith(("     try:", "Deleted: ", "deleted: ")):
            yield HEADING.sub("CREATED ", AGE.sub("AGE ", line))


CHANGES = """
mkdir -p /new/deep; echo x >/new/deep/file; echo y >>/etc/passwd; rm /bin/awk; rm -r /usr/sbin
mkdir /usr/sbin; echo z >/usr/sbin/own; ln -s /etc /new/link; chmod 700 /root; mv /bin/ash /bin/moved; rm -r /etc/group
"""


def test_what_a_container_has_changed_is_told_as_docker_tells_it(
    docker: tuple[str, ...], tmp_path: Path, paths: Paths
) -> None:
    archive = str(tmp_path / "busybox.tar")
    ImageStore.open(paths).export_docker_archive("busybox", "busybox:latest", archive)
    run(*docker, "load", "-q", "-i", archive)
    run(*docker, "run", "--name", "changed", "--network", "none", "busybox", "sh", "-c", CHANGES)
    try:
        data = json.loads(run(*docker, "inspect", "--format", "{{json .GraphDriver.Data}}", "changed"))
        ours = [f"{change.kind} {change.path}" for change in changes(data["UpperDir"], data["LowerDir"].split(":"))]
        assert sorted(ours) == sorted(run(*docker, "diff", "changed").splitlines())
    finally:
        run(*docker, "rm", "changed")
