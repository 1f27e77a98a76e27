"""One image as a container and as a guest: the same output, and the same exit codes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.linux import command

pytestmark = [pytest.mark.root, pytest.mark.needs("vm-tcg")]

ALONE = ("--network", "none")
IMAGE = "lab-test-same:latest"
DOCKERFILE = r"""
FROM busybox
RUN mkdir -p /srv/www /home && echo kept > /srv/www/file \
 && echo web:x:1234:1234::/home:/bin/sh >> /etc/passwd && printf 'web:x:1234:\nlogs:x:77:web\n' >> /etc/group
ENV COLOUR=green GREETING="hello world"
WORKDIR /srv/www
USER web
ENTRYPOINT ["sh", "-c"]
CMD ["echo default $COLOUR; id; pwd; cat file; exit 5"]
"""
TOLD = r"""
echo out; echo err >&2
id; pwd; umask; env | grep -v HOSTNAME | grep -v SHLVL | grep -v PWD | sort
cat /etc/hostname; hostname; [ "$(hostname)" = "$HOSTNAME" ] && echo same name
grep -c . /etc/hosts; ls -ld /tmp /srv/www /dev/null /dev/stdout | cut -c1-10
echo written > /dev/stdout; echo written > /dev/stderr
test -t 0 || echo no terminal
for word in "$@"; do echo "[$word]"; done
"""
RUNS = (
    (("--hostname", "same"), (), b""),
    (
        ("--hostname", "same", "-e", "COLOUR=red", "-e", "MORE=a b", "-u", "0:77", "-w", "/made/now"),
        (TOLD, "x", "a b", "", "ü"),
        b"",
    ),
    (("-i", "--entrypoint", "cat"), ("-", "/srv/www/file"), b"from standard input\n" * 20_000),
)
EXECUTIONS = (
    ((), ("sh", "-c", "echo out; echo err >&2; exit 3"), b""),
    ((), ("sh", "-c", "kill -9 $$"), b""),
    ((), ("sh", "-c", "kill -TERM $$"), b""),
    ((), ("true",), b""),
    (("-i",), ("sh", "-c", "wc -c; echo end"), b"x" * 300_000),
    (("-i",), ("cat",), bytes(range(256)) * 2000),
    (("-u", "web"), ("sh", "-c", "id; pwd; echo $HOME $COLOUR"), b""),
    (("-u", "77:88"), ("id",), b""),
    (("-w", "/srv", "-e", "A=1", "-e", "A=2"), ("sh", "-c", "pwd; echo $A $GREETING"), b""),
    ((), ("sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"), b""),
    ((), ("no-such-program",), b""),
    ((), ("/etc",), b""),
)  # fmt: skip


def lab(*words: str, stdin: bytes = b"") -> command.Completed:
    return command.run((sys.executable, "-m", "lab", *words), stdin=stdin, timeout_s=100)


@pytest.fixture(scope="module")
def image(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image that says all that an image can say of its main command."""
    context = tmp_path_factory.mktemp("same")
    Path(context, "Dockerfile").write_text(DOCKERFILE)
    built = lab("build", "-q", "--network", "none", "-t", IMAGE, str(context))
    assert built.exit_code == 0, built.error_text
    yield IMAGE
    lab("vm", "image", "rm", IMAGE)
    lab("rmi", "-f", IMAGE)


@pytest.mark.parametrize("row", range(len(RUNS)))
def test_a_guest_runs_an_image_as_a_container_does(image: str, row: int) -> None:
    flags, words, stdin = RUNS[row]
    container = lab("run", "--rm", *ALONE, *flags, image, *words, stdin=stdin)
    guest = lab("vm", "run", "--rm", *ALONE, *flags, image, *words, stdin=stdin)
    assert (guest.exit_code, guest.stdout, guest.stderr) == (container.exit_code, container.stdout, container.stderr)
    assert guest.stdout


@pytest.fixture(scope="module")
def both(image: str) -> Iterator[tuple[str, str]]:
    """A running container and a running guest of the image."""
    name = f"lab-same-{os.getpid()}-{time.monotonic_ns() % 10**6}"
    waiting = ("-d", *ALONE, "--name", name, "--entrypoint", "sleep", "-u", "0", image, "1000")
    for words in (("run", *waiting), ("vm", "run", *waiting)):
        started = lab(*words)
        assert started.exit_code == 0, started.error_text
    yield name, name
    lab("vm", "rm", "-f", name)
    lab("rm", "-f", name)


def test_programs_in_a_guest_are_what_they_are_in_a_container(both: tuple[str, str]) -> None:
    container, guest = both
    for flags, words, stdin in EXECUTIONS:
        wanted = lab("exec", *flags, container, *words, stdin=stdin)
        got = lab("vm", "exec", *flags, guest, *words, stdin=stdin)
        assert (got.exit_code, got.stdout) == (wanted.exit_code, wanted.stdout), words
        if wanted.exit_code not in (126, 127):  # where there is no program, each says so in its own words
            assert got.stderr == wanted.stderr, words
