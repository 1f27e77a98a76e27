"""Every command of the course, by docker's own client on `lab serve`: scripts, what they print, and their exit codes.

A line after "$ " is given to sh, the lines below it are what it prints on both of its outputs: "..." stands for
anything, in a line and for lines, "[exit N]" for the code where it is not 0. A backslash joins two lines.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from kernel.api.conftest import Server
from kernel.registry.servers import PASSWORD, USER, registry, with_password

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]

_TIMEOUT_S = 100
_EXIT = re.compile(r"\[exit (\d+)\]")

SCRIPTS = {
    "build": r"""
$ mkdir app; echo content > app/f; echo secret > app/ignored; echo ignored > app/.dockerignore
$ printf 'FROM busybox\nARG WHO=nobody\nENV FROM_IMAGE=yes\nWORKDIR /app\nCOPY . .\n\
RUN echo $WHO > who\nEXPOSE 80\n' > app/Dockerfile
$ echo 'CMD ["sh", "-c", "ls; cat who; echo $FROM_IMAGE; exit 3"]' >> app/Dockerfile
$ docker build -t app:1 --build-arg WHO=somebody app
...Step 1/8 : FROM busybox
...Successfully tagged app:1
$ docker build -t app:2 --build-arg WHO=somebody app | grep -c 'Using cache'
...7
$ docker run --rm app:1
Dockerfile
f
who
somebody
yes
[exit 3]
$ docker run --rm app:1 echo overridden
overridden
$ docker history --format '{{.CreatedBy}}' app:1 | grep -c FROM_IMAGE
1
$ docker image inspect -f '{{json .Config.ExposedPorts}} {{.Config.WorkingDir}}' app:1
{"80/tcp":{}} /app
$ echo 'FROM app:1' > again; docker build -q -t app:3 -f again .
...sha256:...
$ docker build --no-cache --target nosuch app
...
[exit 1]
$ printf 'FROM busybox\nRUN exit 9\n' | docker build -
...returned a non-zero code: 9
[exit 9]
$ printf 'FROM busybox AS a\nRUN echo made > /m\nFROM busybox\nCOPY --from=a /m /n\nCMD cat /n\n' | \
  docker build -q -t two -
...sha256:...
$ docker run --rm two
made
$ docker rmi app:1 app:2 app:3 two | grep -c Untagged
4
$ docker image prune -f
...Total reclaimed space: ...
""",
    "images": r"""
$ docker images --format '{{.Repository}}:{{.Tag}}'
busybox:latest
$ docker tag busybox named:1
$ docker tag nosuch named:2
Error response from daemon: No such image: nosuch:latest
[exit 1]
$ docker images -q named
...
$ docker images -f dangling=true -q
$ docker save named:1 -o named.tar
$ docker rmi named:1
Untagged: named:1
$ docker load -i named.tar
Loaded image: named:1
$ docker rmi named:1
Untagged: named:1
$ docker create --name exported busybox true
...
$ docker export exported -o files.tar; tar tf files.tar | grep -c '^bin/busybox$'
1
$ docker import -c 'CMD echo imported' files.tar imported:1
sha256:...
$ docker run --rm imported:1
imported
$ docker rmi imported:1
Untagged: imported:1
Deleted: sha256:...
$ docker rmi nosuch
...No such image: nosuch...
[exit 1]
$ docker rmi busybox
...conflict: unable to ...busybox...
[exit 1]
$ docker rm exported
exported
$ docker image inspect -f '{{.Os}}' busybox nosuch
linux
...No such image: nosuch...
[exit 1]
$ docker search nosuch
...
[exit 1]
""",
    "run": r"""
$ docker run --rm busybox echo attached
attached
$ echo typed | docker run --rm -i busybox sh -c 'cat; echo bad >&2; exit 5'
typed
bad
[exit 5]
$ docker run -d --name c1 --label a=b -e A=1 busybox sh -c 'echo up; echo warned >&2; touch /new; exec sleep 1000'
...
$ docker ps --format '{{.Names}} {{.Image}} {{.State}}' -f label=a=b
c1 busybox running
$ docker ps -q | wc -c
13
$ docker run --name c1 busybox true
...Conflict. The container name "/c1" is already in use by container...
[exit 125]
$ docker run --rm busybox nosuch
...exec: "nosuch": executable file not found in $PATH...
[exit 127]
$ docker logs c1
up
warned
$ docker logs --tail 1 -t c1 2>&1 | cut -c 1-2
20
$ docker exec c1 sh -c 'echo $A; exit 4'
1
[exit 4]
$ echo in | docker exec -i c1 cat
in
$ docker exec -d c1 touch /by-exec; until docker exec c1 ls /by-exec 2>/dev/null; do sleep 0.1; done
/by-exec
$ docker exec -w /tmp -u 5 -e B=2 c1 sh -c 'pwd; id -u; echo $B'
/tmp
5
2
$ docker diff c1
A /by-exec
A /new
$ docker top c1 -o pid,comm
...sleep
$ docker inspect -f '{{.State.Status}} {{.Config.Labels.a}} {{.HostConfig.Memory}}' c1
running b 0
$ docker stats --no-stream --format '{{.Name}} {{.MemPerc}} {{.PIDs}}' c1
c1 0...% 1
$ docker pause c1; docker exec c1 true
c1
...is paused, unpause the container before exec
[exit 1]
$ docker unpause c1
c1
$ docker rename c1 c2
$ docker update -m 64m --memory-swap 64m --cpus 0.5 c2; \
  docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}' c2
c2
67108864 500000000
$ docker restart -t 0 c2
c2
$ docker rm c2
...cannot remove...c2...running...
[exit 1]
$ docker kill -s KILL c2; docker wait c2
c2
137
$ docker start c2; docker stop -t 0 c2; docker stop c2
c2
c2
c2
$ docker commit -m saved -c 'CMD cat /by-exec && echo kept' c2 kept:1; docker run --rm kept:1
sha256:...
kept
$ docker rmi kept:1 | head -1
Untagged: kept:1
$ docker start -a c2 >out & sleep 0.5; docker stop -t 0 c2; wait; cat out
...c2
up
$ docker ps -a --format '{{.Names}}: {{.Status}}'
c2: Exited (137) ...
$ docker rm $(docker ps -aq | cut -c 1-6); docker ps -aq
...
$ docker rm nosuch
...No such container: nosuch
[exit 1]
$ docker run -d --rm --name brief busybox sh -c 'for i in 1 2 3; do echo $i; sleep 0.1; done'; docker logs -f brief
...
1
2
3
$ docker run -d --name pruned busybox true; docker wait pruned; docker container prune -f
...
0
Deleted Containers:
...
Total reclaimed space: ...
$ docker run --rm --memory 32m --pids-limit 20 --cpus 0.5 busybox \
  sh -c 'cat /sys/fs/cgroup/memory*/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max'
33554432
$ docker run --help | grep -c -- --entrypoint
1
""",
    "data": r"""
$ docker run --name writes busybox sh -c 'echo kept > /file'; docker cp writes:/file out; cat out
...kept
$ echo changed > in; docker cp in writes:/file; docker cp writes:/file - | tar xO
...changed
$ mkdir -p tree/deep; echo leaf > tree/deep/leaf; docker cp tree writes:/tree; docker cp writes:/tree back; \
  cat back/deep/leaf
...leaf
$ tar c tree | docker cp - writes:/tmp; docker cp writes:/tmp/tree/deep/leaf -  | tar xO
leaf
$ docker cp writes:/nosuch .
...writes...
[exit 1]
$ docker rm writes
writes
$ docker run --rm -v data:/d busybox sh -c 'echo one > /d/f'; \
  docker run --rm -v data:/d:ro busybox sh -c 'cat /d/f; echo two > /d/f'
one
sh: can't create /d/f: Read-only file system
[exit 1]
$ docker run --rm -v /anonymous busybox true; docker volume ls -q
data
$ docker run --name holds -v /anonymous busybox true; docker volume ls -q | wc -l; docker rm -v holds; \
  docker volume ls -q
2
holds
data
$ mkdir host; echo from-host > host/f; docker run --rm -v $PWD/host:/h -v /h/hidden busybox sh -c 'cat /h/f; \
  touch /h/hidden/x; echo back > /h/g'; ls host/hidden; cat host/g
from-host
back
$ docker volume create --label a=b more; docker volume inspect -f '{{.Name}} {{.Labels.a}} {{.Driver}}' more
more
more b local
$ docker volume ls -f dangling=true -q | sort
data
more
$ docker run -d --name uses -v more:/m busybox sleep 1000 >id; docker volume rm more
...volume is in use...
[exit 1]
$ docker rm -f uses; docker volume rm more data nosuch
uses
more
data
...nosuch...
[exit 1]
$ docker volume create pruned; docker volume prune -f -a 2>/dev/null || docker volume prune -f; docker volume ls -q
pruned
Deleted Volumes:
pruned
...
$ docker system df --format '{{.Type}}: {{.TotalCount}}'
Images: 1
Containers: 0
Local Volumes: 0
Build Cache: ...
$ docker system prune -f
...Total reclaimed space: ...
""",
    "network": r"""
$ docker network create --subnet 10.219.91.0/24 net
...
$ docker network create net
...network with name net already exists
[exit 1]
$ docker run -d --name server --network net busybox sh -c 'echo served > /f; exec httpd -f -p 8000'
...
$ docker run --rm --network net busybox wget -qO- http://server:8000/f
served
$ docker run --rm --add-host=host.docker.internal:host-gateway busybox \
  sh -c 'ping -c 1 -w 5 host.docker.internal' | grep -c '1 packets received'
1
$ docker network inspect -f '{{range .Containers}}{{.Name}}{{end}} {{(index .IPAM.Config 0).Subnet}}' net
server 10.219.91.0/24
$ docker network ls --format '{{.Name}} {{.Driver}}' | sort
bridge bridge
host host
net bridge
none null
$ docker network rm net
...has active endpoints...
[exit 1]
$ docker network disconnect net server; docker network connect --alias other --ip 10.219.91.77 net server
$ docker run --rm --network net busybox nslookup other | grep -c 10.219.91.77
1
$ docker run -d --name published -p 127.0.0.1:0:8000 busybox httpd -f -p 8000 -h /etc >id; \
  docker port published 8000 | cut -d: -f1
127.0.0.1
$ wget -qO- http://$(docker port published 8000)/hostname | wc -c
13
$ docker rm -f server published; docker network rm net nosuch
server
published
net
...nosuch...
[exit 1]
$ docker network create gone; docker network prune -f
...
Deleted Networks:
gone
""",
    "environment": r"""
$ docker run --rm -e A=1 --env B=2 busybox sh -c 'echo $A$B'
12
$ printf '# comment\nC=3\nD\n' > .env; D=4 docker run --rm --env-file ./.env busybox sh -c 'echo $C$D'
34
$ docker run --rm --entrypoint echo busybox entry
entry
$ printf 'FROM busybox\nENTRYPOINT ["echo", "tool"]\n' | docker build -q -t util -; \
  docker run --rm util init; docker rmi util | head -1
sha256:...
tool init
Untagged: util:latest
$ mkdir work; docker run --rm -v $PWD/work:/app -w /app busybox sh -c 'echo made > here'; cat work/here
made
$ docker version --format '{{.Server.APIVersion}}'; docker info --format '{{.Driver}} {{.OSType}}'
1.41
overlay2 linux
$ docker secret ls
Error response from daemon: This node is not a swarm manager....
[exit 1]
$ docker nosuch
...
[exit ...]
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_of_the_course_prints_what_docker_prints(name: str, served: Server, tmp_path: Path) -> None:
    try:
        wrong = _play(SCRIPTS[name], served, tmp_path)
    finally:
        _clear(served)
    assert not wrong, "\n\n".join(wrong)


def _steps(script: str) -> Iterator[tuple[str, str]]:
    for step in script.replace("\\\n", "").strip().removeprefix("$ ").split("\n$ "):
        command, _, expected = step.partition("\n")
        yield command, expected


def _play(script: str, server: Server, directory: Path) -> list[str]:
    """Run the steps of a script, and return what is wrong with which."""
    return [wrong for step in _steps(script) if (wrong := _wrong(step, server, directory))]


def _wrong(step: tuple[str, str], server: Server, directory: Path) -> str:
    """Run a step, and return what is wrong with it, "" if nothing is."""
    command, expected = step
    lines = expected.splitlines()
    code = lines.pop() if lines and lines[-1].startswith("[exit ") else "[exit 0]"
    done = subprocess.run(
        ["sh", "-c", f"exec 2>&1; {command}"],
        cwd=directory,
        env={**server.environment, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=_TIMEOUT_S,
    )
    text = _without_advice(done.stdout.decode(errors="replace"))
    pattern = ".*".join(map(re.escape, "\n".join(lines).split("...")))
    right = re.fullmatch(pattern, text.rstrip("\n"), re.DOTALL) and (
        code == f"[exit {done.returncode}]" or "..." in code
    )
    return "" if right else f"$ {command}\n{text}[exit {done.returncode}]\n-- expected:\n{expected}"


_ADVICE = re.compile(
    r"DEPRECATED: The legacy builder.*?\n\n|\nRun '.*--help' for more information\n|See '.*--help'\.\n|"
    r"WARNING: image with reference .*\n|Successfully copied .*\n",
    re.DOTALL,
)


def _without_advice(text: str) -> str:
    """Return what a command prints without what only some of docker's clients add to it."""
    return _ADVICE.sub("", text)


def _clear(server: Server) -> None:
    """Remove what a script that failed has left."""
    leave = (
        "docker rm -fv $(docker ps -aq); docker volume rm -f $(docker volume ls -q); docker network prune -f;"
        " docker rmi -f $(docker images -q --filter label=none --filter dangling=true)"
    )
    subprocess.run(["sh", "-c", leave], env=server.environment, capture_output=True, timeout=_TIMEOUT_S)


def test_events_are_told_as_they_happen_and_in_order(served: Server) -> None:
    argv = ("docker", "events", "--filter", "container=watched", "--format", "{{.Type}} {{.Action}}")
    with subprocess.Popen(argv, env=served.environment, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        try:
            time.sleep(0.5)  # the client gives no sign that it listens
            script = "docker run --name watched busybox true; docker rm watched"
            subprocess.run(["sh", "-c", script], env=served.environment, check=True, capture_output=True)
            told = [client.stdout.readline().strip() for _ in range(5)]
        finally:
            client.terminate()
    assert told == [f"container {action}" for action in ("create", "attach", "start", "die", "destroy")]


# -- terminals ---------------------------------------------------------------------------------------------------------


class _Terminal:
    """Docker's client on a terminal of 24 rows and 80 columns."""

    def __init__(self, server: Server, words: Sequence[str]) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execvpe("docker", ("docker", *words), server.environment)
        self.resize(24, 80)
        self._shown = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def until(self, text: bytes) -> None:
        """Read until a text is shown, and forget what came before its end."""
        deadline = time.monotonic() + 20
        while text not in self._shown:
            assert time.monotonic() < deadline, self._shown
            if select.select([self._master], [], [], 1)[0]:
                self._shown += os.read(self._master, 65536)
        self._shown = self._shown.partition(text)[2]

    def ended(self) -> int:
        """Return the exit code of the client, once it has ended."""
        deadline = time.monotonic() + 20
        while select.select([self._master], [], [], max(0, deadline - time.monotonic()))[0]:
            try:
                if not os.read(self._master, 65536):
                    break
            except OSError:  # EIO: the client has gone
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def _terminal(server: Server, *words: str) -> Iterator[_Terminal]:
    terminal = _Terminal(server, words)
    try:
        yield terminal
    finally:
        try:
            os.kill(terminal.pid, signal.SIGKILL)
            os.waitpid(terminal.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(terminal._master)
        _clear(server)


def test_a_terminal_is_resized_left_by_its_keys_and_taken_up_again(served: Server) -> None:
    with _terminal(served, "run", "-it", "--name", "shell", "busybox", "sh") as terminal:
        terminal.until(b"# ")
        terminal.type(b"stty size; tty\n")
        terminal.until(b"24 80\r\n/dev/pts/0")
        terminal.resize(33, 101)
        os.kill(terminal.pid, signal.SIGWINCH)
        terminal.type(b"until [ \"$(stty size)\" = '33 101' ]; do sleep 0.1; done; echo res''ized\n")
        terminal.until(b"resized")
        terminal.type(b"\x10\x11")
        assert terminal.ended() == 0
        with _terminal_again(served, "attach", "shell") as again:
            again.type(b"echo still $((40 + 2))\n")
            again.until(b"still 42")
            again.type(b"exit 6\n")
            assert again.ended() == 6


@contextmanager
def _terminal_again(server: Server, *words: str) -> Iterator[_Terminal]:
    """Give a second terminal within the block of another, which clears up."""
    terminal = _Terminal(server, words)
    yield terminal
    os.close(terminal._master)


def test_an_exec_has_a_terminal_of_its_own_and_keys_of_its_users_choice(served: Server) -> None:
    script = "docker run -dit --name host busybox sh -c 'echo up; exec sleep 1000'"
    subprocess.run(["sh", "-c", script], env=served.environment, check=True, capture_output=True)
    with _terminal(served, "exec", "-it", "--detach-keys", "ctrl-x,d", "host", "sh") as terminal:
        terminal.until(b"# ")
        terminal.type(b"stty size; tty\n")
        terminal.until(b"24 80\r\n/dev/pts/1")
        terminal.type(b"\x18d")
        assert terminal.ended() in (0, 1)  # newer clients call it an error that it was left
        with _terminal_again(served, "attach", "--detach-keys", "ctrl-x,d", "host") as again:
            time.sleep(0.3)  # nothing is shown by which one could tell that it is connected
            again.type(b"\x18d")
            assert again.ended() in (0, 1)


# -- registries --------------------------------------------------------------------------------------------------------


@pytest.mark.needs("docker-registry")
def test_a_registry_with_a_password_is_logged_into_pushed_to_and_pulled_from(served: Server, tmp_path: Path) -> None:
    with registry(tmp_path / "registry", settings=with_password(tmp_path / "registry")) as host:
        script = rf"""
$ docker tag busybox {host}/mine:1
$ docker push {host}/mine:1
...no basic auth credentials
[exit 1]
$ echo wrong | docker login -u {USER} --password-stdin {host}
...
[exit 1]
$ echo {PASSWORD} | docker login -u {USER} --password-stdin {host}
...Login Succeeded
$ docker push {host}/mine:1
The push refers to repository [{host}/mine]
...
1: digest: sha256:... size: ...
$ docker rmi {host}/mine:1 >/dev/null; docker pull {host}/mine:1
1: Pulling from mine
...
Status: Downloaded newer image for {host}/mine:1
...
$ docker pull {host}/mine:1 | grep Status
Status: Image is up to date for {host}/mine:1
$ docker run --rm --pull always {host}/mine:1 echo pulled 2>/dev/null
pulled
$ docker pull {host}/mine:nosuch
...manifest...unknown...
[exit 1]
$ printf 'FROM {host}/mine:1\nRUN true\n' | docker build -q --pull -
...sha256:...
$ docker rmi -f {host}/mine:1 >/dev/null; docker logout {host}
Removing login credentials for {host}
$ docker pull {host}/mine:1
...
[exit 1]
"""
        wrong = _play(script, served, tmp_path)
        _clear(served)
        assert not wrong, "\n\n".join(wrong)
