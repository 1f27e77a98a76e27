"""The client of the command server: which commands it hands over, to whom, and how; companions and servers are stubs.

It is compiled with the sanitizers for addresses and undefined behaviour, so that each test is one of its memory, too.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import wait_until

from lab.cli import command_server
from lab.cli.command_server import DECLINED, ENDED, PROTOCOL, READY
from lab.cli.command_worker import DESCRIPTORS, REQUEST_BYTES, Request
from lab.errors import UnavailableError
from lab.linux import sockets
from lab.linux.compiler import compile_c
from lab.paths import Paths

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="without a compiler there is no client")

SOURCE = Path(command_server.__file__).with_name("command_client.c")
STRICT = ("-std=c11", "-O2", "-Wextra", "-Werror")
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PYTHON = "#!/bin/sh\necho in Python\nfor word; do printf '%s\\n' \"$word\"; done\n"
SERVER = '#!/bin/sh\nls -l /proc/self/fd > "$2/descriptors"\nprintf "%s\\n" "$@" > "$2/new" && mv "$2/new" "$2/asked"\n'
TIMEOUT_S = 20
NOBODY = 65534
EXIT_SERVER_DIED = 125


class Client:
    """The program among its companions, and a root that it is called for."""

    def __init__(self, program: Path, root: Path) -> None:
        self.program = program
        self.root = root
        self.run = root / "run"

    def __call__(self, *words: str | bytes, **how: object) -> subprocess.CompletedProcess[bytes]:
        """Carry one command out on the root, unless its words name another."""
        argv = (self.program, *words)
        wanted = {"capture_output": True, "timeout": TIMEOUT_S, "env": self.environment(), **how}
        return subprocess.run(argv, check=False, **wanted)  # type: ignore[call-overload,no-any-return]

    def begin(self, *words: str | bytes, **how: object) -> subprocess.Popen[bytes]:
        """Start one command; its streams are pipes."""
        pipe = subprocess.PIPE
        wanted = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "env": self.environment(), **how}
        return subprocess.Popen((self.program, *words), **wanted)  # type: ignore[call-overload,no-any-return] # by name

    def environment(self, **more: str) -> dict[str, str]:
        calm = {"ASAN_OPTIONS": "disable_coredump=0"}  # which would change a limit
        return {"PATH": os.environ["PATH"], "LAB_ROOT": str(self.root), **calm, **more}

    def wants_server(self, *words: str, **how: object) -> bool:
        """Carry a command out, and return whether it would rather have had a server."""
        done = self(*words, **how)
        assert done.stdout.splitlines() == [b"in Python", *map(os.fsencode, words)]
        assert (done.returncode, done.stderr) == (0, b"")
        return self.run.joinpath("commands.lock").exists()

    def asked(self, **how: object) -> list[str]:
        """Return the words with which a server is started for commands of a kind: protocol, run directory, socket."""
        assert self.wants_server("ps", **how)
        wait_until(self.run.joinpath("asked").exists)
        return self.run.joinpath("asked").read_text().splitlines()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("client")
    path = directory / "lab"
    try:
        compile_c(SOURCE.read_bytes(), str(path), (*STRICT, *SANITIZERS), purpose="its tests")
    except UnavailableError:  # a compiler without them
        compile_c(SOURCE.read_bytes(), str(path), STRICT, purpose="its tests")
    for name, script in (("lab-python", PYTHON), ("lab-command-server", SERVER)):
        path.with_name(name).write_text(script)
        path.with_name(name).chmod(0o755)
    return path


@pytest.fixture
def client(program: Path, tmp_path: Path) -> Client:
    return Client(program, tmp_path)


# ---- which commands


@pytest.mark.parametrize(
    "argv",
    [
        ("ps", "-a"),
        ("run", "--rm", "busybox"),
        ("image", "ls"),
        ("--root", "ROOT", "run", "x"),
        ("--root=ROOT", "image", "ls"),
        ("--root", "/none", "--root=ROOT", "ps"),
        ("build", "."),
        ("run", "x", "--root", ""),
    ],
)
def test_a_command_on_containers_may_be_served(client: Client, argv: tuple[str, ...]) -> None:
    assert client.wants_server(*(word.replace("ROOT", str(client.root)) for word in argv))


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("--root",),
        ("--root=", "ps"),
        ("--root", "", "ps"),
        ("--rootless", "ps", "x"),
        ("--log-level", "debug", "ps"),
        ("--version",),
        ("",),
        ("bench", "run", "quick"),
        ("doctor",),
        ("build", "-f", "/dev/fd/63", "."),
        ("run", "--cidfile", "/proc/self/fd/5", "x"),
        ("build", "https://example.org/x.git"),
        ("builder", "build", "git@example.org:x"),
    ],
)
def test_what_a_worker_cannot_do_as_well_is_carried_out_here(client: Client, argv: tuple[str, ...]) -> None:
    assert not client.wants_server(*argv)


@pytest.mark.parametrize(
    ("name", "value", "is_wanted"),
    [
        ("PYTHONPATH", "x", False),
        ("PYTHONHOME", "", False),
        ("LD_LIBRARY_PATH", "/none", False),
        ("MALLOC_ARENA_MAX", "1", False),
        ("GLIBC_TUNABLES", "x", False),
        ("LAB_COMMAND_SERVER", "off", False),
        ("LAB_COMMAND_SERVER", "on", True),
        ("PYTHONUNBUFFERED", "1", True),
        ("PYTHONDONTWRITEBYTECODE", "1", True),
        ("LANG", "C", True),
        ("LANG", "xx_XX.UTF-8", True),
        ("LC_CTYPE", "de_DE.utf8@euro", True),
        ("LANG", "de_DE.ISO-8859-1", False),
        ("LC_ALL", "de_DE", False),
    ],
)
def test_variables_that_shape_a_process_at_its_start_are_no_workers(
    client: Client, name: str, value: str, is_wanted: bool
) -> None:
    assert client.wants_server("ps", env=client.environment(**{name: value})) == is_wanted


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_a_command_without_one_of_its_streams_is_carried_out_here(client: Client, stream: int) -> None:
    done = client("ps", preexec_fn=lambda: os.close(stream))
    assert done.stdout.startswith(b"in Python") or stream == 1
    assert not client.run.exists()


def test_nothing_is_begun_for_a_root_that_is_not_there(client: Client, tmp_path: Path) -> None:
    assert not client.wants_server("ps", env=client.environment(LAB_ROOT=f"{tmp_path}/none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.root
@pytest.mark.needs("root")
@pytest.mark.parametrize("harm", ["owner", "mode"])
def test_a_directory_that_others_can_write_to_gets_no_server(client: Client, harm: str) -> None:
    client.run.mkdir()
    os.chown(client.run, NOBODY, NOBODY) if harm == "owner" else client.run.chmod(0o777)
    assert not client.wants_server("ps")


@pytest.mark.parametrize("name", ["commands.lock", "commands.log"])
def test_a_link_in_the_place_of_its_files_is_not_followed(client: Client, tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    client.run.mkdir()
    client.run.joinpath(name).symlink_to(precious)
    client.wants_server("ps")
    assert precious.read_text() == "kept"
    assert not client.run.joinpath("asked").exists()


def test_without_its_companion_it_says_what_to_do(program: Path, tmp_path: Path) -> None:
    alone = shutil.copy(program, tmp_path / "lab")
    done = subprocess.run((alone, "doctor"), check=False, capture_output=True, timeout=TIMEOUT_S)
    assert done.returncode == 3
    assert done.stderr.startswith(b"lab: cannot execute lab-python beside the lab: No such file")


def test_in_an_environment_that_was_moved_the_interpreter_beside_it_takes_over(program: Path, tmp_path: Path) -> None:
    moved = Client(Path(shutil.copy(program, tmp_path / "lab")), tmp_path)
    for name, script in (("lab-python", PYTHON), ("lab-command-server", SERVER)):
        moved.program.with_name(name).write_text(script.replace("/bin/sh", "/none/python3", 1))
        moved.program.with_name(name).chmod(0o755)
    moved.program.with_name("python3").symlink_to("/bin/sh")
    assert moved.asked()[0] == PROTOCOL


# ---- where its server is


def test_it_is_started_once_with_the_protocol_the_place_and_a_lock(client: Client) -> None:
    protocol, run, name = client.asked()
    assert (protocol, run) == (PROTOCOL, str(client.run))
    assert name.startswith("commands-")
    descriptors = client.run.joinpath("descriptors").read_text()
    assert "0 -> /dev/null" in descriptors
    assert f"2 -> {client.run}/commands.log" in descriptors
    assert f"{command_server.LOCK_NUMBER} -> {client.run}/commands.lock" in descriptors
    assert "pipe:" not in descriptors  # of the caller


@pytest.mark.parametrize("written", ["{root}/", "{root}/x/..", "{root}/./.", "//{root}//", "x/../", ".", "./"])
def test_a_root_is_read_as_the_lab_reads_it(client: Client, written: str) -> None:
    given = written.format(root=client.root)
    assert client("--root", given, "ps", cwd=client.root).returncode == 0
    wait_until(client.run.joinpath("asked").exists)
    assert client.run.joinpath("asked").read_text().splitlines()[1] == str(client.run)


@pytest.fixture
def home() -> Iterator[str]:
    """Return the home directory of a user who is not root."""
    directory = tempfile.mkdtemp(prefix="lab-test-home-")
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, NOBODY)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize(
    "variables",
    [
        {"HOME": "{home}"},
        {"HOME": "{home}", "XDG_DATA_HOME": "{home}/data", "XDG_CACHE_HOME": "{home}/cache"},
        {"HOME": "{home}", "XDG_RUNTIME_DIR": "{home}/run", "XDG_DATA_HOME": ""},
        {"HOME": "{home}", "LAB_ROOT": "{home}/own"},
    ],
)
def test_a_user_has_the_same_directories_as_in_python(program: Path, home: str, variables: dict[str, str]) -> None:
    environ = {name: value.format(home=home) for name, value in variables.items()}
    uid = NOBODY if os.geteuid() == 0 else os.geteuid()
    paths = Paths.default(environ, uid=uid)
    public = shutil.copytree(program.parent, f"{home}/bin")
    os.chmod(public, 0o755)
    who = {"user": uid, "group": uid, "extra_groups": ()} if os.geteuid() == 0 else {}
    subprocess.run(("mkdir", "-p", paths.root), check=True, **who)  # type: ignore[call-overload]
    environ["PATH"] = os.environ["PATH"]
    how = {"env": environ, "cwd": "/", "timeout": TIMEOUT_S, "capture_output": True, **who}
    done = subprocess.run((f"{public}/lab", "ps"), check=False, **how)  # type: ignore[call-overload]
    assert done.returncode == 0, done
    wait_until(Path(paths.run, "asked").exists)
    assert Path(paths.run, "asked").read_text().splitlines()[1] == paths.run
    assert os.stat(paths.run).st_mode & 0o777 == 0o700


def test_commands_of_one_kind_have_one_server_and_those_of_another_have_another(client: Client, program: Path) -> None:
    def name(**how: object) -> str:
        shutil.rmtree(client.run, ignore_errors=True)
        return client.asked(**how)[2]

    usual = name()
    assert name(cwd="/", env=client.environment(MORE="1"), preexec_fn=lambda: os.umask(0o77)) == usual
    assert name(preexec_fn=lambda: os.nice(1)) != usual
    assert name(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))) != usual
    assert name(preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})) != usual or (
        len(os.sched_getaffinity(0)) == 1
    )
    elsewhere = Path(shutil.copytree(program.parent, client.root / "elsewhere"))
    client.program = elsewhere / "lab"
    assert name() != usual


# ---- what is said to it


class Server:
    """What a test says as the server, which it is: it is like the client, as a server is."""

    def __init__(self, client: Client) -> None:
        name = client.asked()[2]
        client.run.joinpath("asked").unlink()
        self.listener = sockets.Socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.settimeout(TIMEOUT_S)
        self.listener.bind(str(client.run / name))

    def greet(self) -> sockets.Socket:
        """Take the next client."""
        channel = sockets.Socket(fileno=self.listener._accept()[0])  # type: ignore[attr-defined]  # as sockets.accept
        channel.settimeout(TIMEOUT_S)
        channel.send(READY)
        return channel

    def begin(self) -> tuple[sockets.Socket, Request]:
        """Take the next client and its command."""
        channel = self.greet()
        data, descriptors = sockets.receive_descriptors(channel, REQUEST_BYTES, DESCRIPTORS)
        for descriptor in descriptors:
            os.close(descriptor)
        assert len(descriptors) == DESCRIPTORS
        return channel, Request(data)


@pytest.fixture
def server(client: Client) -> Iterator[Server]:
    serving = Server(client)
    serving.listener.listen()
    with serving.listener:
        yield serving


def _ended(status: int) -> bytes:
    return ENDED + status.to_bytes(4, "little")


def test_a_command_comes_with_all_its_surroundings(client: Client, server: Server) -> None:
    environ = {**client.environment(), "ODD": "\udcff", "EMPTY": ""}

    def prepare() -> None:
        os.umask(0o137)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR2,))

    begun = client.begin("run", "", b"\xff\xfe", "é", env=environ, preexec_fn=prepare)
    channel, request = server.begin()
    assert request.argv == ["run", "", "\udcff\udcfe", "é"]
    assert request.environ == {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}
    assert request.umask == 0o137
    assert request.ignored >> (signal.SIGINT - 1) & 1
    assert request.blocked >> (signal.SIGUSR2 - 1) & 1
    channel.send(_ended(7 << 8))
    assert begun.communicate(timeout=TIMEOUT_S) == (b"", b"")
    assert begun.returncode == 7


def test_streams_and_directory_come_as_descriptors_even_when_the_directory_is_gone(
    client: Client, server: Server, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    begun = client.begin("ps", cwd=here, preexec_fn=here.rmdir)
    channel = server.greet()
    _, (stdin, stdout, stderr, directory) = sockets.receive_descriptors(channel, REQUEST_BYTES, DESCRIPTORS)
    assert os.readlink(f"/proc/self/fd/{directory}") == f"{here} (deleted)"
    os.write(stdout, b"out")
    os.write(stderr, b"err")
    assert begun.stdin is not None
    begun.stdin.write(b"in")
    begun.stdin.flush()
    assert os.read(stdin, 9) == b"in"
    for descriptor in (stdin, stdout, stderr, directory):
        os.close(descriptor)
    channel.send(_ended(0))
    assert begun.communicate(timeout=TIMEOUT_S) == (b"out", b"err")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, 64])
def test_it_ends_by_the_signal_that_ended_the_worker(client: Client, server: Server, number: int) -> None:
    begun = client.begin("ps")
    channel, _ = server.begin()
    channel.send(_ended(number))
    begun.communicate(timeout=TIMEOUT_S)
    assert begun.returncode == -number


def test_signals_are_passed_on_except_those_that_are_ignored_or_blocked(client: Client, server: Server) -> None:
    def prepare() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR2,))

    begun = client.begin("ps", preexec_fn=prepare)
    channel, _ = server.begin()
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM, signal.SIGWINCH, 64):
        begun.send_signal(number)
        if number not in (signal.SIGHUP, signal.SIGUSR2):
            assert channel.recv(9) == bytes((number,))
    channel.send(_ended(0))
    begun.communicate(timeout=TIMEOUT_S)
    assert begun.returncode == 0


def test_a_signal_that_comes_before_the_command_is_taken_is_not_lost(client: Client, server: Server) -> None:
    begun = client.begin("ps")
    channel = server.greet()
    assert channel.recv(1, socket.MSG_PEEK)  # it is sent, and from here on signals are the worker's
    begun.send_signal(signal.SIGTERM)
    sockets.receive_descriptors(channel, REQUEST_BYTES, 0)
    assert channel.recv(9) == bytes((signal.SIGTERM,))
    channel.send(_ended(3 << 8))
    begun.communicate(timeout=TIMEOUT_S)
    assert begun.returncode == 3


def test_ctrl_z_stops_it_after_it_is_passed_on_and_fg_is_passed_on(client: Client, server: Server) -> None:
    begun = client.begin("ps", process_group=0)  # not an orphaned group, which the kernel does not stop
    channel, _ = server.begin()
    for _ in range(2):
        begun.send_signal(signal.SIGTSTP)
        assert channel.recv(9) == bytes((signal.SIGTSTP,))
        assert os.WIFSTOPPED(os.waitpid(begun.pid, os.WUNTRACED)[1])
        begun.send_signal(signal.SIGCONT)
        assert channel.recv(9) == bytes((signal.SIGCONT,))
    channel.send(_ended(0))
    begun.communicate(timeout=TIMEOUT_S)
    assert begun.returncode == 0


def _decline(channel: sockets.Socket) -> None:
    sockets.receive_descriptors(channel, REQUEST_BYTES, 0)
    channel.send(DECLINED)


@pytest.mark.parametrize("answer", [_decline, sockets.Socket.close])
def test_what_a_server_does_not_take_is_carried_out_here(
    client: Client, server: Server, answer: Callable[[sockets.Socket], None]
) -> None:
    begun = client.begin("ps", "-a")
    if answer is _decline:
        _decline(server.greet())
    else:
        sockets.Socket(fileno=server.listener._accept()[0]).close()  # type: ignore[attr-defined]
    assert begun.communicate(timeout=TIMEOUT_S) == (b"in Python\nps\n-a\n", b"")
    assert begun.returncode == 0


def test_a_command_too_big_for_a_message_is_carried_out_here(client: Client, server: Server) -> None:
    big = "x" * 100_000
    begun = client.begin("run", big, big, big)
    channel = server.greet()
    assert channel.recv(1) == b""
    out, err = begun.communicate(timeout=TIMEOUT_S)
    assert (len(out), err) == (len("in Python\nrun\n") + 3 * len(f"{big}\n"), b"")


@pytest.mark.parametrize("answer", [b"", b"x", ENDED, ENDED + b"123"])
def test_a_server_that_ends_or_raves_amid_a_command_is_told(client: Client, server: Server, answer: bytes) -> None:
    begun = client.begin("ps")
    channel, _ = server.begin()
    if answer:
        channel.send(answer)
    channel.close()
    out, err = begun.communicate(timeout=TIMEOUT_S)
    assert (begun.returncode, out) == (EXIT_SERVER_DIED, b"")
    assert b"the command server has ended" in err


def test_a_server_that_was_moved_is_not_asked(client: Client, server: Server) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    moved = (0 if before[0] else 1, before[1])
    if 0 <= before[1] < moved[0]:
        pytest.skip("the hard limit for core files leaves no choice")
    resource.setrlimit(resource.RLIMIT_CORE, moved)
    try:
        done = client("ps", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, before))
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert done.stdout.startswith(b"in Python")
    wait_until(client.run.joinpath("asked").exists)  # one is started that is alike


@pytest.mark.root
@pytest.mark.needs("root")
def test_a_server_of_another_user_is_told_nothing(client: Client) -> None:
    other = Server(client)
    os.seteuid(NOBODY)
    try:
        other.listener.listen()
    finally:
        os.seteuid(0)
    with other.listener:
        done = client("ps")
        channel = sockets.Socket(fileno=other.listener._accept()[0])  # type: ignore[attr-defined]
        assert channel.recv(1) == b""
    assert done.stdout.startswith(b"in Python")
