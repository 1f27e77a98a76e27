"""nginx and redis from Debian's packages, each as a container and as a guest: the same answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from lab.linux import command

pytestmark = [pytest.mark.root, pytest.mark.needs("vm-tcg"), pytest.mark.timeout(900)]

IMAGE = "lab-test-services:latest"
ALONE = ("--network", "none")
ROWS = (
    ("nginx", "-v"),
    ("redis-server", "--version"),
    ("sh", "-c", "nginx -t; echo $?"),
    ("sh", "-c", "redis-cli -p 1 ping; echo $?"),
)
ASKED = (
    ("sh", "-c", "cat < /dev/null; perl -MIO::Socket -e '$s=IO::Socket::INET->new(\"127.0.0.1:80\"); print $s "
                 "\"GET / HTTP/1.0\\r\\n\\r\\n\"; while(<$s>){print if /title/}'"),
    ("redis-cli", "set", "key", "a value"),
    ("redis-cli", "get", "key"),
    ("redis-cli", "no-such-command"),
)  # fmt: skip
SERVING = "redis-server --save '' & exec nginx -g 'daemon off;'"
READY = ("sh", "-c", "until redis-cli ping; do sleep 0.1; done; until [ -e /run/nginx.pid ]; do sleep 0.1; done")


def lab(*words: str) -> command.Completed:
    return command.run((sys.executable, "-m", "lab", *words), timeout_s=600)


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    packages = "nginx-light,redis-server,redis-tools"
    made = lab("image", "bootstrap", "debian", "--include", packages, "--tag", IMAGE)
    assert made.exit_code == 0, made.error_text
    yield IMAGE
    lab("vm", "image", "rm", IMAGE)
    lab("rmi", "-f", IMAGE)


@pytest.mark.parametrize("words", ROWS, ids=lambda words: words[0])
def test_programs_of_services_say_the_same(image: str, words: tuple[str, ...]) -> None:
    container = lab("run", "--rm", *ALONE, image, *words)
    guest = lab("vm", "run", "--rm", "-m", "512m", *ALONE, image, *words)
    assert (guest.exit_code, guest.stdout, guest.stderr) == (container.exit_code, container.stdout, container.stderr)
    assert guest.stdout or guest.stderr


def test_services_answer_the_same(image: str) -> None:
    name = f"lab-services-{os.getpid()}"
    answers = []
    try:
        for verb, flags in ((), ()), (("vm",), ("-m", "512m")):
            started = lab(*verb, "run", "-d", "--name", name, *ALONE, *flags, image, "sh", "-c", SERVING)
            assert started.exit_code == 0, started.error_text
            assert lab(*verb, "exec", name, *READY).exit_code == 0
            found = [lab(*verb, "exec", name, *words) for words in ASKED]
            answers.append([(each.exit_code, each.stdout, each.stderr) for each in found])
    finally:
        lab("vm", "rm", "-f", name)
        lab("rm", "-f", name)
    container, guest = answers
    assert guest == container
    assert b"Welcome to nginx" in guest[0][1]
    assert guest[2][1] == b"a value\n"
