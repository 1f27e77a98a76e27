"""What a keeper does for one connection of a command; the words are in ``link.py``."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lab.container import user_database
from lab.errors import DomainError, LabError, SpecError
from lab.linux import process_cpu
from lab.machine import link
from lab.machine.plan import basic_environment, merged, pairs
from lab.machine.record import MachineRecord
from lab.units import NS_PER_S
from lab.vm.guest_agent import MAIN_ID, GuestAgent, GuestCommand, decode_count, decode_end

if TYPE_CHECKING:
    from lab.machine.keeper import Keeper

_ANSWER_NS = 10 * NS_PER_S
_STREAM_WINDOW_BYTES = 256 * 1024
_SIZE_BYTES = 4

Answer = Mapping[str, object]


def serve(keeper: Keeper, connection: link.Link) -> None:
    """Carry out the request of one connection, and close it unless it is to hear of the machine's end."""
    frame = connection.receive()
    if frame is None:
        connection.close()
        return
    try:
        asked: dict[str, Any] = json.loads(frame[1])
        _OPERATIONS[asked["op"]](keeper, connection, asked)
    except (LabError, TimeoutError, LookupError, ValueError) as error:
        with contextlib.suppress(OSError):
            connection.send(b"F", json.dumps(link.encode_error(error)).encode())
    except OSError:  # the command has gone
        connection.close()


def _answer(connection: link.Link, answer: Answer) -> None:
    connection.send(b"J", json.dumps(answer).encode())


# -- what follows a connection for a while -----------------------------------------------------------------------------


def _attach(keeper: Keeper, connection: link.Link, _: Mapping[str, Any]) -> None:
    _answer(connection, {})
    keeper.await_end(connection)
    with contextlib.suppress(LabError, TimeoutError):  # it has ended, or is being saved
        for kind, payload in connection.frames():
            _relay(lambda: keeper.guest.agent, MAIN_ID, kind, payload)


def _relay(agent: Callable[[], GuestAgent], frame_id: int, kind: bytes, payload: bytes) -> None:
    """Hand a command's frame on to the guest."""
    if kind == b"T":
        agent().send_input(frame_id, payload)
    elif kind == b"C":
        agent().end_input(frame_id)
    elif kind == b"W":
        rows, columns = (int.from_bytes(payload[at : at + _SIZE_BYTES], "little") for at in (0, _SIZE_BYTES))
        agent().resize(frame_id, rows, columns)
    elif kind == b"G":
        agent().signal(frame_id, decode_count(payload))


def _exec(keeper: Keeper, connection: link.Link, asked: Mapping[str, Any]) -> None:
    agent = keeper.guest.agent
    command = _guest_command(keeper.record, agent, asked)
    output: queue.SimpleQueue[link.Frame] = queue.SimpleQueue()
    frame_id = agent.stream(
        command, lambda kind, payload: output.put((kind, payload)), deadline_ns=time.monotonic_ns() + _ANSWER_NS
    )
    _answer(connection, {})
    threading.Thread(target=_forward, args=(agent, frame_id, connection), name="exec-input", daemon=True).start()
    kind = b""
    while kind not in (b"D", b"F"):
        kind, payload = output.get()
        if kind == b"D":
            payload = str(decode_end(payload)[0]).encode()
        connection.send(kind, payload)
        if kind in (b"O", b"E"):  # only now, so that a slow reader slows the program down and fills nothing
            agent.acknowledge(frame_id, len(payload))
    connection.close()


def _forward(agent: GuestAgent, frame_id: int, connection: link.Link) -> None:
    """Hand on what a command sends to what it executes; one that goes before that ends takes it along."""
    with contextlib.suppress(LabError, TimeoutError):
        for kind, payload in connection.frames():
            _relay(lambda: agent, frame_id, kind, payload)
        if agent.is_running(frame_id):
            agent.kill(frame_id)


def _guest_command(record: MachineRecord, agent: GuestAgent, asked: Mapping[str, Any]) -> GuestCommand:
    """Return what is to be executed: beside the main command, in its environment, as its user unless told otherwise."""
    passwd, group = (
        agent.read_file(path, timeout_ns=_ANSWER_NS).decode(errors="replace") for path in ("/etc/passwd", "/etc/group")
    )
    user = (record.process.uid, record.process.gid, record.process.groups)
    env = record.process.env
    if asked["user"]:
        try:
            user = user_database.identify(asked["user"], (), passwd, group)
        except LookupError as error:
            raise SpecError(str(error), hint="--user UID") from error
    home = user_database.home(user[0], passwd)
    terminal = tuple(asked["terminal"]) if asked["terminal"] else None
    basic = basic_environment("", terminal=terminal is not None, home=home)
    changed = tuple(line for line in basic if line.startswith(("HOME=", "TERM=")) and (asked["user"] or terminal))
    return GuestCommand(
        argv=tuple(asked["argv"]),
        env=pairs(merged(merged(env, changed), tuple(asked["env"]))),
        cwd=asked["cwd"] or record.process.cwd,
        user=user,
        terminal=terminal,
        input_open=asked["stdin"],
        window_bytes=_STREAM_WINDOW_BYTES,
    )


# -- what is answered at once ------------------------------------------------------------------------------------------


def _shutdown(keeper: Keeper, connection: link.Link, asked: Mapping[str, Any]) -> None:
    keeper.end(grace_ns=int(asked["grace_s"] * NS_PER_S))
    _answer(connection, {})


def _destroy(keeper: Keeper, connection: link.Link, _: Mapping[str, Any]) -> None:
    keeper.end()
    _answer(connection, {})


def _save(keeper: Keeper, connection: link.Link, _: Mapping[str, Any]) -> None:
    keeper.do(keeper.save)
    _answer(connection, {})


def _snapshot(keeper: Keeper, connection: link.Link, asked: Mapping[str, Any]) -> None:
    keeper.do(lambda: keeper.snapshot(asked["target"]))
    _answer(connection, {})


def _stats(keeper: Keeper, connection: link.Link, _: Mapping[str, Any]) -> None:
    guest = keeper.guest
    pid = guest.pid
    if pid is None:
        raise DomainError("the machine is just ending")
    memory = guest.memory_bytes(timeout_ns=_ANSWER_NS)
    answer = {
        "at_ns": time.monotonic_ns(),
        "cpu_ns": process_cpu.read(pid).total_ns,
        "vmm_bytes": _resident_bytes(pid),
        "memory_bytes": memory.get("MemTotal", 0),
        "available_bytes": memory.get("MemAvailable", 0),
    }
    _answer(connection, answer)


def _resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        line = next(line for line in file if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def _describe(keeper: Keeper, connection: link.Link, _: Mapping[str, Any]) -> None:
    xml, argv = keeper.guest.provenance()
    _answer(connection, {"xml": xml, "argv": argv})


_OPERATIONS: Mapping[str, Callable[[Keeper, link.Link, Mapping[str, Any]], None]] = {
    "attach": _attach,
    "exec": _exec,
    "shutdown": _shutdown,
    "destroy": _destroy,
    "save": _save,
    "snapshot": _snapshot,
    "stats": _stats,
    "describe": _describe,
}
