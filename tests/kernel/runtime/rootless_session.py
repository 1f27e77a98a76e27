"""Run containers as whoever runs this: root directory, layer; then one JSON request a line, one answer a line."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from lab.container.defaults import ContainerConfig
from lab.container.engine import Engine
from lab.container.output import communicate
from lab.container.resources import limits
from lab.container.spawner_client import Running, Stdio
from lab.errors import LabError
from lab.paths import Paths

_DEADLINE_NS = 60_000_000_000


def _finish(launch: Any) -> tuple[int, str, str]:
    (stdin, our_stdin), (our_stdout, stdout), (our_stderr, stderr) = os.pipe(), os.pipe(), os.pipe()
    running: Running = launch(Stdio(stdin=stdin, stdout=stdout, stderr=stderr))
    for descriptor in (stdin, stdout, stderr):
        os.close(descriptor)
    code, out, err = communicate(
        running,
        stdin=our_stdin,
        stdout=our_stdout,
        stderr=our_stderr,
        data=b"",
        deadline_ns=time.monotonic_ns() + _DEADLINE_NS,
    )
    return code, out.decode(), err.decode()


def main(root: str, layer: str) -> None:
    """Serve requests until there are no more; leave nothing."""
    with Engine(Paths.under(root)) as engine:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer: object = _serve(engine, layer, request)
            except LabError as error:
                answer = [type(error).__name__, str(error), error.hint]
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        for state in engine.list():
            engine.delete(state.id, force=True)


def _serve(engine: Engine, layer: str, request: dict[str, Any]) -> object:
    if request["verb"] == "exec":
        process = engine.process(request["id"], tuple(request["args"]))
        return _finish(lambda stdio: engine.exec(request["id"], process, stdio=stdio))
    changes = dict(request.get("changes", {}))
    if "memory_bytes" in changes:
        changes["resources"] = limits(vcpus=None, memory_bytes=changes.pop("memory_bytes"), pids=None)
    config = ContainerConfig(id=request["id"], args=tuple(request["args"]), layers=(layer,), **changes)
    engine.create(config)
    if request["verb"] == "run":
        try:
            return _finish(lambda stdio: engine.start(config.id, stdio=stdio))
        finally:
            engine.delete(config.id, force=True)
    null = os.open(os.devnull, os.O_RDWR)
    running = engine.start(config.id, stdio=Stdio(stdin=null, stdout=null, stderr=null))
    os.close(null)
    return running.pid


if __name__ == "__main__":
    main(*sys.argv[1:])
