"""Reading what a container has written: the log that ``log_file.py`` writes, from any place, in constant memory.

A log is one file, or several when it is kept short: ``container.log``, before it ``container.log.1`` and so on, which
may be compressed. Each of its lines is an entry: time, stream, F or P, text. P is a part of a line, whose rest, up to
an F, comes later.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lab.container import log_file
from lab.container.log_place import Place
from lab.linux import inotify

_BLOCK_BYTES = 1 << 18
_TIME_END, _STREAM, _TAG, _TEXT = 30, slice(31, 37), slice(38, 39), 40  # an entry's head has one length
_STDOUT, _WHOLE_LINES = b"stdout", b"stdout F "
_ROTATED = re.compile(rf"{re.escape(log_file.LOG_FILE)}\.(\d+)({re.escape(log_file.PACKED)})?")
_CHANGES = inotify.IN_MODIFY | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM | inotify.IN_CREATE | inotify.IN_DELETE_SELF

Piece = tuple[bool, bytes]
"""Whether it goes to standard error, and what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be shown of a log: docker's flags.

    ``tail`` is the number of lines at its end (None: all), before ``since_ns`` and ``until_ns`` (time of day) take of
    them; ``details`` is put before each text.
    """

    tail: int | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    timestamps: bool = False
    details: str | None = None


class Renderer:
    """Entries -> what `docker logs` writes; it remembers for each stream whether a line has been begun."""

    def __init__(self, wanted: Wanted) -> None:
        """Nothing has been rendered yet."""
        self._since = b"" if wanted.since_ns is None else log_file.timestamp(wanted.since_ns).encode()
        self._until = b"" if wanted.until_ns is None else log_file.timestamp(wanted.until_ns).encode()
        self._with_time = wanted.timestamps
        self._details = b"" if wanted.details is None else f"{wanted.details} ".encode()
        self._is_plain = not (self._since or self._until or self._with_time or self._details)
        self._begun = {False: False, True: False}
        self.is_beyond = False

    def render(self, entries: Sequence[bytes]) -> Iterator[Piece]:
        """Give the texts of entries, those of one stream that follow each other together."""
        if self._is_plain and {entry[_STREAM.start : _TEXT] for entry in entries} == {_WHOLE_LINES}:
            yield False, b"\n".join([entry[_TEXT:] for entry in entries]) + b"\n"  # most logs, three times as fast
            return
        run: list[bytes] = []
        to_error = False
        for entry in entries:
            if not self._is_plain and not self._is_wanted(entry):
                continue
            stream = entry[_STREAM] != _STDOUT
            if stream != to_error:
                if run:
                    yield to_error, b"".join(run)
                run, to_error = [], stream
            if not self._is_plain:
                run.append(self._prefix(entry, stream))
            run.append(entry[_TEXT:])
            if entry[_TAG] == b"F":
                run.append(b"\n")
        if run:
            yield to_error, b"".join(run)

    def _is_wanted(self, entry: bytes) -> bool:
        at = entry[:_TIME_END]
        if self._until and at > self._until:
            self.is_beyond = True
        return at >= self._since and not self.is_beyond

    def _prefix(self, entry: bytes, stream: bool) -> bytes:
        if self._begun[stream]:
            self._begun[stream] = entry[_TAG] != b"F"
            return b""
        self._begun[stream] = entry[_TAG] != b"F"
        return (entry[:_TIME_END] + b" " if self._with_time else b"") + self._details


def files(bundle: str) -> tuple[str, ...]:
    """Return the files of a container's log that exist, the oldest first; compressed ones end with ``PACKED``."""
    present = sorted(os.listdir(bundle), reverse=True)  # so that of both forms of a file the plain one stays
    names = {int(found[1]): name for name in present if (found := _ROTATED.fullmatch(name))}
    oldest_first = (*(names[number] for number in sorted(names, reverse=True)), log_file.LOG_FILE)
    found_paths = (os.path.join(bundle, name) for name in oldest_first)
    return tuple(path for path in found_paths if os.path.exists(path))


class Reader:
    """A log from some place on, read forward; to be used in a ``with`` block."""

    def __init__(
        self, bundle: str, wanted: Wanted, *, since: Place | None = None, end_bytes: int | None = None
    ) -> None:
        """Open the log of the container in this directory, at the place where what is wanted begins.

        That is ``since``, if it is given. With ``end_bytes`` it is read up to there in what is its last file now.

        Raises:
            OSError: a file cannot be read.
        """
        self._bundle = bundle
        self._renderer = Renderer(wanted)
        self._end: tuple[int, int] | None = None
        self._packed: set[int] = set()
        if since is None:
            self._open = [self._opened(path) for path in files(bundle)]
        else:
            self._open = [os.dup(since.file)]
            os.lseek(self._open[0], since.offset_bytes, os.SEEK_SET)
            self._look_for_newer()
        if end_bytes is not None and self._open:
            self._end = self._open[-1], end_bytes
        if wanted.tail is not None and self._open:
            self._skip_to_tail(wanted.tail)

    def __enter__(self) -> Reader:
        """Return the reader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        for descriptor in self._open:
            os.close(descriptor)

    @property
    def is_beyond(self) -> bool:
        """Whether entries after ``until_ns`` have been reached."""
        return self._renderer.is_beyond

    def _opened(self, path: str) -> int:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if path.endswith(log_file.PACKED):
            self._packed.add(descriptor)
        return descriptor

    def _unpack(self, index: int) -> None:
        """Have a file as it was before it was compressed, in a file without name."""
        descriptor = self._open[index]
        if descriptor in self._packed:
            self._packed.remove(descriptor)
            import gzip  # few logs are compressed
            import shutil
            import tempfile

            with os.fdopen(descriptor, "rb") as packed, gzip.open(packed) as source, tempfile.TemporaryFile() as plain:
                shutil.copyfileobj(source, plain)
                plain.flush()
                self._open[index] = os.dup(plain.fileno())
            os.lseek(self._open[index], 0, os.SEEK_SET)

    def _skip_to_tail(self, count: int) -> None:
        for index in range(len(self._open) - 1, -1, -1):
            self._unpack(index)
            offset, count = tail_offset(self._open[index], count)
            if offset or count == 0:
                os.lseek(self._open[index], offset, os.SEEK_SET)
                for descriptor in self._open[:index]:
                    os.close(descriptor)
                del self._open[:index]
                return

    def pieces(self) -> Iterator[Piece]:
        """Give all that is there now; called again, what has come since."""
        if self._end is None:
            self._look_for_newer()
        while self._open:
            entries = self._entries()
            if entries:
                yield from self._renderer.render(entries)
                if self.is_beyond:
                    return
            elif len(self._open) == 1:
                return
            else:
                os.close(self._open.pop(0))

    def _entries(self) -> list[bytes]:
        """Return the next entries; none at the end. What is just being written, and may be taken back, is left."""
        self._unpack(0)
        size = _BLOCK_BYTES
        if self._end is not None and self._end[0] == self._open[0]:
            size = max(0, min(size, self._end[1] - os.lseek(self._open[0], 0, os.SEEK_CUR)))
        block = os.read(self._open[0], size)
        whole = block.rfind(b"\n") + 1
        if not whole and len(block) == _BLOCK_BYTES:
            whole = len(block)  # no log of ours
        if whole < len(block):
            os.lseek(self._open[0], whole - len(block), os.SEEK_CUR)
        return block[:whole].removesuffix(b"\n").split(b"\n") if whole else []

    def _look_for_newer(self) -> None:
        """Open what has come after the file that was the last one, when the log has been begun anew since."""
        with contextlib.suppress(FileNotFoundError):  # the container has been removed: what is open is all there is
            paths = files(self._bundle)
            known = os.fstat(self._open[-1]) if self._open else None
            self._open += map(self._opened, paths if known is None else _after(known, paths))


def _after(known: os.stat_result, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths that come after the one of a known file, or of what that has been compressed to; else all."""
    found = [os.stat(path) for path in paths]
    same = [os.path.samestat(each, known) for each in found]
    if True not in same:
        times = zip(paths, found, strict=True)
        same = [path.endswith(log_file.PACKED) and each.st_mtime_ns == known.st_mtime_ns for path, each in times]
    return paths[same.index(True) + 1 :] if True in same else paths


def tail_offset(descriptor: int, count: int) -> tuple[int, int]:
    """Return where the last ``count`` lines of a log file begin, and how many are still missing if it has fewer.

    It is read backwards from its end. A line that has been begun and not ended counts.
    """
    is_last = True
    for start, entry in _entries_backwards(descriptor):
        if is_last or entry[_TAG] == b"F":
            if count == 0:
                return start + len(entry) + 1, 0
            count -= 1
        is_last = False
    return 0, count


def _entries_backwards(descriptor: int) -> Iterator[tuple[int, bytes]]:
    """Give each entry of a file with its offset, the last first; what is just being written is none yet."""
    position, rest = os.fstat(descriptor).st_size, b""  # what is behind position and belongs to an entry before it
    while position:
        size = min(_BLOCK_BYTES, position)
        position -= size
        first, *others = (os.pread(descriptor, size, position) + rest).split(b"\n")
        start = position + len(first) + 1 + sum(len(entry) + 1 for entry in others[:-1])
        for entry in reversed(others[:-1]):
            start -= len(entry) + 1
            yield start, entry
        rest = first + b"\n" * bool(others)
    if rest.endswith(b"\n"):
        yield 0, rest[:-1]


def follow(
    reader: Reader, bundle: str, *, ended: Callable[[], bool], process: int, until: Callable[[], int | None]
) -> Iterator[Piece]:
    """Give what is in a log and what comes, until ``ended`` says that nothing will, or the time is over.

    ``ended`` is asked whenever something has changed, or ``process`` (a pidfd) has ended; ``until`` tells how many
    nanoseconds are left, None for any number.
    """
    with inotify.Watch() as watch:
        with contextlib.suppress(FileNotFoundError):  # it has been removed: then it has ended
            watch.add(bundle, _CHANGES)
        waits_for: tuple[int, ...] = (process,)
        while True:
            is_over = ended()  # asked before the log is read: what is written before the end is noted is read as well
            yield from reader.pieces()
            if is_over or reader.is_beyond:
                return
            ready = watch.wait(until(), *waits_for)
            if not ready:
                return
            waits_for = tuple(descriptor for descriptor in waits_for if descriptor not in ready)
            watch.read()
