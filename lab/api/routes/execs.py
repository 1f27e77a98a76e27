"""/exec and /containers/…/exec: programs in running containers."""

from __future__ import annotations

import contextlib
import os
from contextlib import ExitStack
from dataclasses import replace
from http import HTTPStatus

from lab.api import executions, fields, refusals
from lab.api.call import Call, Routes
from lab.api.executions import Execution
from lab.api.http import Answer, document, nothing
from lab.api.relay import STDERR, STDOUT, Relay
from lab.container import console, events
from lab.container.containers import Container, Containers
from lab.container.detach_keys import DETACH_KEYS, Detached, DetachFilter, detach_sequence
from lab.container.spawner_client import Running, StartFailed, Stdio
from lab.errors import SpecError, StateConflict

_CANNOT_EXECUTE = 126


def create(call: Call) -> Answer:
    """Say what is to be executed; nothing runs."""
    body = call.connection.document()
    args = fields.texts(body, "Cmd")
    if not args:
        raise SpecError("No exec command specified")
    with call.containers() as containers:
        container = _running(containers, call.name)
        execution = Execution(
            id=executions.new_id(container),
            container=container.id,
            args=args,
            env=fields.texts(body, "Env"),
            cwd=fields.text(body, "WorkingDir"),
            user=fields.text(body, "User"),
            privileged=fields.truth(body, "Privileged"),
            terminal=fields.truth(body, "Tty"),
            stdin=fields.truth(body, "AttachStdin"),
            stdout=fields.truth(body, "AttachStdout"),
            stderr=fields.truth(body, "AttachStderr"),
            detach_keys=fields.text(body, "DetachKeys"),
        )
        executions.save(containers, execution)
        _note(container, f"exec_create: {' '.join(args)}", execution)
    return document({"Id": execution.id}, status=HTTPStatus.CREATED)


def _running(containers: Containers, reference: str) -> Container:
    container = containers.get(reference)
    if not container.is_running:
        raise StateConflict(f"Container {container.id} is not running")
    if container.is_paused:
        raise StateConflict(f"Container {container.name} is paused, unpause the container before exec")
    return container


def _note(container: Container, action: str, execution: Execution) -> None:
    events.note(container.state.bundle, action, events.execution(execution.id))


def start(call: Call) -> Answer | None:
    """Execute a program, connected with the client unless it is detached.

    Raises:
        ClientGone: the client has gone; the program goes on.
    """
    body = call.connection.document()
    detached = fields.truth(body, "Detach")
    with call.containers() as containers:
        execution = executions.load(containers, call.name)
        if execution.has_begun:
            raise StateConflict(f"Error: Exec command {execution.id} has already run")
        container = _running(containers, execution.container)
        begin = _Begin(containers, container, execution)
        if detached:
            begin.detached()
            return nothing(HTTPStatus.OK)
        early = call.connection.hijack()
        with Relay(call.connection, raw=execution.terminal, keys=_keys(execution)) as relay, ExitStack() as stack:
            try:
                running = _connected(call, stack, begin, relay)
            except StartFailed as error:
                relay.send(STDOUT, refusals.words_of(error).encode() + b"\r\n")
                return None
            stack.callback(running.close)
            with contextlib.suppress(Detached):
                relay.feed(early)
                relay.run()
                begin.ended(running.wait())
    return None


def _keys(execution: Execution) -> DetachFilter | None:
    return DetachFilter(detach_sequence(execution.detach_keys or DETACH_KEYS)) if execution.terminal else None


class _Begin:
    """The start of one execution, and the notes about it."""

    def __init__(self, containers: Containers, container: Container, execution: Execution) -> None:
        self._containers, self._container, self.execution = containers, container, execution
        self._process = containers.process(
            container,
            execution.args,
            env=tuple(line for line in execution.env if "=" in line),
            cwd=execution.cwd,
            user=execution.user,
            privileged=execution.privileged,
            terminal=execution.terminal,
        )

    def __call__(self, stdio: Stdio) -> Running:
        """Start it; that it could not be is noted as well."""
        _note(self._container, f"exec_start: {' '.join(self.execution.args)}", self.execution)
        try:
            running = self._containers.engine.exec(
                self._container.id, self._process, stdio=stdio, detached=True, exec_id=self.execution.id
            )
        except StartFailed as error:
            self.ended(max(error.exit_code, _CANNOT_EXECUTE))
            raise
        self.execution = replace(self.execution, pid=running.pid)
        executions.save(self._containers, self.execution)
        return running

    def detached(self) -> None:
        """Start it without streams."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self(Stdio(stdin=null, stdout=null, stderr=null)).close()
        finally:
            os.close(null)

    def ended(self, code: int | None) -> None:
        """Note its exit code."""
        self.execution = replace(self.execution, exit_code=code)
        with contextlib.suppress(FileNotFoundError):  # its container has been removed
            executions.save(self._containers, self.execution)


def _connected(call: Call, stack: ExitStack, begin: _Begin, relay: Relay) -> Running:
    """Start an execution with its streams, or its terminal, connected with the relay."""
    execution = begin.execution
    if execution.terminal:
        with console.Pair() as pair:
            running = begin(pair.stdio)
            master = pair.receive()
        stack.callback(os.close, master)
        stack.enter_context(call.surroundings.terminals.open(execution.id, master))
        relay.output(os.dup(master), STDOUT)
        if execution.stdin:
            relay.input(os.dup(master))
        return running
    given: dict[str, int] = {}
    try:
        for name, stream, wanted in (("stdout", STDOUT, execution.stdout), ("stderr", STDERR, execution.stderr)):
            source, given[name] = os.pipe()
            if wanted:
                relay.output(source, stream)
            else:
                os.close(source)
                os.close(given[name])
                given[name] = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        if execution.stdin:
            given["stdin"], target = os.pipe()
            relay.input(target)
        else:
            given["stdin"] = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return begin(Stdio(**given))
    finally:
        for descriptor in given.values():
            os.close(descriptor)


def inspect(call: Call) -> Answer:
    """Tell all that is known of an execution."""
    with call.containers() as containers:
        return document(executions.load(containers, call.name).document())


def resize(call: Call) -> Answer:
    """Tell an execution's terminal its size."""
    rows, columns = call.query.number("h"), call.query.number("w")
    if rows is None or columns is None:
        raise SpecError("h and w are needed: the rows and columns of a terminal")
    with call.containers() as containers:
        execution = executions.load(containers, call.name)
    call.surroundings.terminals.resize(execution.id, rows, columns)
    return nothing(HTTPStatus.OK)


ROUTES: Routes = {
    ("POST", "/containers/{name}/exec"): create,
    ("POST", "/exec/{name}/start"): start,
    ("GET", "/exec/{name}/json"): inspect,
    ("POST", "/exec/{name}/resize"): resize,
}
