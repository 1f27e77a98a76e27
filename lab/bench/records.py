"""Append and read ``results.jsonl``: one JSON object per line, flushed as it comes.

    line 1       {"type": "run", ...}    what all trials have in common (``model.Run``)
    then         {"type": "trial", ...}  one per trial (``model.Trial``), failed ones too
    among them   {"type": "given_up", ...}  a cell that is not tried again, and why (``model.GivenUp``)
    last         {"type": "end", ...}    why the session stopped (``model.RunEnd``)

An interrupted run has an end line with reason "interrupted", or none if the machine went down; when it is resumed
more trials follow, and another end. Only the last line may be damaged (a write that was cut off): it is left out when
reading and cut off when resuming. Damage anywhere else is an error that names the line.

Schema history
    1  2026-11  first form
    2  2026-11  records "given_up"; trials have wall_ns and elapsed_ns, so that a resumed run knows its time
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any  # a JSON object has no narrower type before it is checked

from lab.bench.document import decode, encode
from lab.bench.model import GivenUp, Run, RunEnd, Trial
from lab.errors import MeasurementError

SCHEMA = 2
RESULTS = "results.jsonl"

Record = Run | Trial | GivenUp | RunEnd

_KINDS: Mapping[str, type[Run] | type[Trial] | type[GivenUp] | type[RunEnd]] = {
    "run": Run,
    "trial": Trial,
    "given_up": GivenUp,
    "end": RunEnd,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A results file as read: ``end`` is None while the run has not ended, or was cut off.

    ``complete_bytes`` is the length of the part that is whole; anything after it is a line that was cut off.
    ``elapsed_ns`` is how long the run has taken so far, all sessions together, by the last record that says so.
    """

    path: str
    run: Run
    trials: tuple[Trial, ...]
    end: RunEnd | None
    complete_bytes: int
    given_up: tuple[GivenUp, ...] = ()
    elapsed_ns: int = 0


class Recorder:
    """Appends records to a results file; each one is handed to the kernel before the next trial begins.

    A crash of the harness loses nothing; there is no fsync, since a crash of the *machine* may cost the last
    trials but an fsync per trial would disturb the very disk that is being measured.
    """

    def __init__(self, path: str, *, keep_bytes: int | None = None) -> None:
        """Open ``path`` for appending; ``keep_bytes`` first cuts off what follows the last whole line.

        Raises:
            MeasurementError: it cannot be opened.
        """
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            if keep_bytes is not None:
                os.ftruncate(self._descriptor, keep_bytes)
        except OSError as error:
            raise MeasurementError(f"cannot record into {path}: {error.strerror}") from error

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Write one record as one line.

        Raises:
            MeasurementError: the line could not be written whole (disk full); the file ends with its last whole line.
        """
        line = to_line(record)
        size = os.fstat(self._descriptor).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):  # not a regular file: there is no cut-off line to remove
                os.ftruncate(self._descriptor, size)
            raise MeasurementError(
                f"cannot record into {self._path}: {error.strerror}; what was measured before is kept",
                hint="free some space, then resume the run: lab bench resume "
                + os.path.basename(os.path.dirname(os.path.abspath(self._path))),
            ) from error

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def to_line(record: Record) -> bytes:
    """Return a record as one line of JSON, newline included."""
    name = next(name for name, kind in _KINDS.items() if isinstance(record, kind))
    text = json.dumps({"type": name, **encode(record)}, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def from_line(line: bytes) -> Record:
    """Return the record that a line holds.

    Raises:
        ValueError: it is not JSON, or not a record.
    """
    value: Any = json.loads(line)
    if not isinstance(value, dict) or value.get("type") not in _KINDS:
        raise ValueError(f"not a record: its type is none of {', '.join(_KINDS)}")
    return decode(_KINDS[value["type"]], value, where=value["type"])


def read(path: str) -> Recording:
    """Read a results file, or the one in a run's directory.

    Raises:
        MeasurementError: it is missing, damaged (with the line), or of a newer schema.
    """
    path = os.path.join(path, RESULTS) if os.path.isdir(path) else path
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise MeasurementError(f"cannot read {path}: {error.strerror}") from error
    complete = data.rfind(b"\n") + 1
    records = [_record(line, path, number) for number, line in enumerate(data[:complete].splitlines(), start=1)]
    return _recording(records, path, complete)


def _record(line: bytes, path: str, number: int) -> Record:
    try:
        record = from_line(line)
    except (ValueError, UnicodeDecodeError) as error:
        raise MeasurementError(f"{path}:{number}: damaged record: {error}") from error
    if isinstance(record, Run) and record.schema > SCHEMA:
        raise MeasurementError(
            f"{path}:{number}: schema {record.schema} is newer than this lab's {SCHEMA}", hint="use a newer lab"
        )
    if isinstance(record, Run) != (number == 1):
        raise MeasurementError(f"{path}:{number}: the run record must be the first line, and only that")
    return record


def _recording(records: list[Record], path: str, complete_bytes: int) -> Recording:
    if not records or not isinstance(records[0], Run):
        raise MeasurementError(f"{path}: there is no run record in it", hint="the run never began; start it anew")
    last = records[-1]
    return Recording(
        path=path,
        run=records[0],
        trials=tuple(record for record in records if isinstance(record, Trial)),
        end=last if isinstance(last, RunEnd) else None,
        complete_bytes=complete_bytes,
        given_up=tuple(record for record in records if isinstance(record, GivenUp)),
        elapsed_ns=max((record.elapsed_ns for record in records if isinstance(record, Trial | RunEnd)), default=0),
    )
