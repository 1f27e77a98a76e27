"""The first process of the testbed: it carries out the commands that arrive on its ports, and reaps every orphan.

It runs before the working tree is there, so it needs Python's own library and nothing of the lab. The frames are those
of ``lab/vm/guest_agent.py``: X starts a command, O and E are its output, D is its end, F says why there is none. Beside
them there are W, bytes of its standard input (none: its end), and a greeting without a header, after which both sides
begin anew. ``lab/testbed/channel.py`` is the other end; change both.

Where the machine counts instructions there is one command, a file. It is carried out before the drivers of any device
that answers in its own time are loaded, and what it wrote is told afterwards.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import struct
import subprocess
import time

GREETING = bytes.fromhex("a7d2c4910e6bf35884c1b9e02f7d165a")
HEADER, COUNTS, END = struct.Struct("<IcI"), struct.Struct("<III"), struct.Struct("<IQ")
PORTS = "/sys/class/virtio-ports"
PORT_COUNT = 4
ORDERS = "/run/testbed/command"
TREE = "/run/testbed/tree.tar"
CHUNK = 65536
MOST_QUEUED = 1 << 20
LOOK_FOR_HOST_MS = 100  # a port whose other end is not open is always ready, so it is not waited for but looked at


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return HEADER.pack(len(payload), kind, 0) + payload


def parse_command(payload: bytes) -> tuple[list[str], dict[str, str], str]:
    """Return arguments, environment and working directory of a command as ``guest_agent.encode_command`` makes it."""
    settings, arguments, variables = COUNTS.unpack_from(payload)
    strings = [text.decode() for text in payload[COUNTS.size :].split(b"\0")]
    argv = strings[settings : settings + arguments]
    env = strings[settings + arguments : settings + arguments + variables]
    return argv, dict(entry.split("=", 1) for entry in env), strings[settings + arguments + variables]


def start(payload: bytes, stdin: int, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    """Start a command as the leader of a session of its own."""
    argv, env, cwd = parse_command(payload)
    program = shutil.which(argv[0], path=env.get("PATH", os.defpath)) or argv[0]
    return subprocess.Popen(
        argv,
        executable=program,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )


class Job:
    """A command that runs: its pipes, and what is still to be written to it."""

    def __init__(self, payload: bytes) -> None:
        ends = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        try:
            self.process = start(payload, ends[0][0], ends[1][1], ends[2][1])
        except BaseException:
            for one, other in ends:
                os.close(one)
                os.close(other)
            raise
        for theirs in (ends[0][0], ends[1][1], ends[2][1]):
            os.close(theirs)
        self.started_ns = time.monotonic_ns()
        self.stdin, self.outputs = ends[0][1], {ends[1][0]: b"O", ends[2][0]: b"E"}
        self.pending, self.stdin_ended = bytearray(), False
        for file in (self.stdin, *self.outputs):
            os.set_blocking(file, False)

    def feed(self) -> None:
        """Write what has come for its standard input, and close that at its end."""
        try:
            while self.stdin >= 0 and self.pending:
                del self.pending[: os.write(self.stdin, self.pending[:CHUNK])]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.pending.clear()
            self.stdin_ended = True
        if self.stdin >= 0 and self.stdin_ended and not self.pending:
            os.close(self.stdin)
            self.stdin = -1

    def read(self, file: int) -> bytes:
        """Return what it wrote, as a frame; b"" at the end of that stream, which is then closed."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(file, CHUNK)
            if data:
                return frame(self.outputs[file], data)
        os.close(file)
        del self.outputs[file]
        return b""

    def kill(self) -> None:
        """End it and its children, and forget it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for file in (*self.outputs, *((self.stdin,) if self.stdin >= 0 else ())):
            os.close(file)


class Port:
    """One virtio-serial port: at most one command at a time."""

    def __init__(self, file: int) -> None:
        self.file = file
        os.set_blocking(file, False)
        self.connected = False
        self.received, self.queue = bytearray(), bytearray()
        self.job: Job | None = None

    def reset(self, *, connected: bool) -> None:
        """Forget everything of the host that was there: its command ends with it."""
        if self.job is not None:
            self.job.kill()
        self.job = None
        self.received.clear()
        self.queue.clear()
        self.connected = connected

    def receive(self) -> None:
        """Take what came."""
        try:
            data = os.read(self.file, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.reset(connected=False)
            return
        self.received += data
        begin = self.received.rfind(GREETING)
        if begin >= 0:
            rest = self.received[begin + len(GREETING) :]
            self.reset(connected=True)
            self.received += rest
            self.queue += GREETING
        while len(self.received) >= HEADER.size:
            length, kind, _ = HEADER.unpack_from(self.received)
            if len(self.received) < HEADER.size + length:
                return
            payload = bytes(self.received[HEADER.size : HEADER.size + length])
            del self.received[: HEADER.size + length]
            self.take(kind, payload)

    def take(self, kind: bytes, payload: bytes) -> None:
        """Carry out one request."""
        if kind == b"X":
            try:
                self.job = Job(payload)
            except (OSError, ValueError) as error:
                self.queue += frame(b"F", str(error).encode())
        elif kind == b"W" and self.job is not None:
            self.job.pending += payload
            self.job.stdin_ended = self.job.stdin_ended or not payload
            self.job.feed()

    def flush(self) -> None:
        """Write what is queued."""
        try:
            while self.queue:
                del self.queue[: os.write(self.file, self.queue[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError:  # the host has gone; that is seen when it is read from
            self.queue.clear()

    def finish(self) -> None:
        """Tell the end of the command once all that it wrote is queued."""
        job = self.job
        if job is None or job.process.returncode is None:
            return
        for file in tuple(job.outputs):  # a child that it left behind may hold them open
            while len(self.queue) < MOST_QUEUED and (data := job.read(file)):
                self.queue += data
        if not job.outputs:
            self.queue += end_frame(job.process.returncode, time.monotonic_ns() - job.started_ns)
            job.kill()
            self.job = None

    def events(self) -> dict[int, int]:
        """Return what to wait for, by file."""
        reads = self.job is None or len(self.job.pending) < MOST_QUEUED
        wanted = {self.file: (select.POLLIN if reads else 0) | (select.POLLOUT if self.queue else 0)}
        if self.job is not None:
            if self.job.pending:
                wanted[self.job.stdin] = select.POLLOUT
            if len(self.queue) < MOST_QUEUED:
                wanted |= dict.fromkeys(self.job.outputs, select.POLLIN)
        return wanted


def end_frame(returncode: int, elapsed_ns: int) -> bytes:
    """Return the frame that tells an end; a signal is 128 more, as a shell says it."""
    return frame(b"D", END.pack(returncode if returncode >= 0 else 128 - returncode, elapsed_ns))


def reap(jobs: list[Job]) -> None:
    """Take the exit status of every process that has ended, of orphans too."""
    known = {job.process.pid: job.process for job in jobs}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in known:
            known[pid].returncode = os.waitstatus_to_exitcode(status)


def serve(ports: list[Port], woken: int) -> None:
    """Wait once, and do what has come."""
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    owners: dict[int, Port] = {}
    for port in ports:
        for file, events in port.events().items() if port.connected else ():
            poll.register(file, events)
            owners[file] = port
    lonely = any(not port.connected for port in ports)
    ready = poll.poll(LOOK_FOR_HOST_MS if lonely else None)
    if any(file == woken for file, _ in ready):
        os.read(woken, CHUNK)
    reap([port.job for port in ports if port.job is not None])
    for port in ports:
        if not port.connected:
            port.connected = has_host(port.file)
    for file, _ in ready:
        if file in owners:
            attend(owners[file], file)
    for port in ports:
        port.finish()
        port.flush()


def attend(port: Port, file: int) -> None:
    """Do what one file is ready for; another may have ended its command meanwhile."""
    if file == port.file:
        port.receive()
    elif port.job is not None and file == port.job.stdin:
        port.job.feed()
    elif port.job is not None and file in port.job.outputs:
        port.queue += port.job.read(file)


def has_host(file: int) -> bool:
    """Return whether the other end of a port is open."""
    poll = select.poll()
    poll.register(file, 0)
    return not poll.poll(0)


def port_paths() -> list[str]:
    """Return the device of each port once all are there, the first one first: the host tells of them by and by."""
    while not os.path.isdir(PORTS) or len(names := os.listdir(PORTS)) < PORT_COUNT:
        time.sleep(0.01)
    return [f"/dev/{name}" for name in sorted(names)]


def serve_for_ever(ports: list[Port]) -> None:
    """Carry out what the ports ask for."""
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    while True:
        serve(ports, woken)


def carry_out_orders() -> None:
    """Run the one command of a machine that counts instructions, then tell what came of it, and power off."""
    with open(ORDERS, "rb") as orders, open("/run/testbed/out", "w+b") as out, open("/run/testbed/err", "w+b") as err:
        payload = orders.read()
        cwd = parse_command(payload)[2]
        os.makedirs(cwd, exist_ok=True)
        subprocess.run(("tar", "-xf", TREE, "-C", cwd), check=True)
        os.unlink(TREE)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        started_ns = time.monotonic_ns()
        told = []
        try:
            process = start(payload, null, out.fileno(), err.fileno())
            end = end_frame(process.wait(), time.monotonic_ns() - started_ns)
        except OSError as error:
            end = frame(b"F", str(error).encode())
        for file, kind in ((out, b"O"), (err, b"E")):
            file.seek(0)
            while data := file.read(CHUNK):
                told.append(frame(kind, data))
    subprocess.run(("modprobe", "-a", "virtio_pci", "virtio_console"), check=True)
    tell(b"".join((GREETING, *told, end)))
    os.sync()
    with open("/proc/sysrq-trigger", "w", encoding="ascii") as trigger:
        trigger.write("b")  # with -no-reboot that ends QEMU


def tell(data: bytes) -> None:
    """Write to the first port once it is there, and wait until the host has it all."""
    file = os.open(port_paths()[0], os.O_RDWR | os.O_CLOEXEC)
    while not has_host(file):
        time.sleep(0.01)
    while data:
        data = data[os.write(file, data[:CHUNK]) :]
    os.read(file, 1)  # the host closes when it has seen the end
    os.close(file)


def main() -> None:
    """Be the first process."""
    if os.path.exists(ORDERS):
        carry_out_orders()
    else:
        serve_for_ever([Port(os.open(path, os.O_RDWR | os.O_CLOEXEC)) for path in port_paths()])


if __name__ == "__main__":
    main()
