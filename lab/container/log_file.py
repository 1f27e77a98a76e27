"""The log of one container, as its supervisor writes it; reading it is ``logs.py``.

One line an entry: time, stream, F for a full line or P for a part, text. A log that is kept short is several files:
``container.log``, before it ``container.log.1``, before that ``container.log.2``; or ``container.log.1.gz`` and so on,
where they are compressed, which ``log_packing.py`` does in a process of its own.

The form is that of Kubernetes' container runtimes: lines can be cut, joined and read by ``cut`` and ``grep``.
Source: github.com/kubernetes/design-proposals-archive, node/kubelet-cri-logging.md.

This file is imported by the spawner: nothing heavy here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LOG_FILE = "container.log"
LIMITS_FILE = "log-limits"
"""Most bytes in a file of the log (0: any number), most files (0: there is no log), and 1 if those that are put away
are to be compressed; without it there is one file of any length. Its lock is held by who gives them other names."""
PACKED = ".gz"

_MODE = 0o640
_BLOCK_BYTES = 65536


class Log:
    """The log of one container, appended to."""

    def __init__(self, bundle: str, pack: Callable[[], None] | None = None) -> None:
        """Open the log in a container's directory, and make it if it is not there.

        An entry that was not written whole, because the disk was full or the writer was killed, is taken off its end.
        ``pack`` is called when a file has been put away that is to be compressed.
        """
        self._bundle = bundle
        self._path = os.path.join(bundle, LOG_FILE)
        self._most_bytes, self._most_files, self._packs = _limits(bundle)
        self._pack = pack
        self._descriptor = self._open()
        self._size_bytes = _whole_bytes(self._descriptor) if self._descriptor >= 0 else 0
        self._lost_bytes = 0

    def _open(self) -> int:
        if not self._most_files:
            return -1
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)

    @property
    def size_bytes(self) -> int:
        """How long the log's last file is now."""
        return self._size_bytes

    def append(self, stream: str, data: bytes) -> None:
        """Add what has come from a stream. A full disk loses lines, which the log says when there is room again."""
        if not self._most_files:
            return
        entry = entries(stream, data, time.time_ns())
        if self._lost_bytes:
            note = f"[{self._lost_bytes} bytes of output were not logged: no space left on device]\n"
            entry = entries("stderr", note.encode(), time.time_ns()) + entry
        try:
            self._write(entry)
        except OSError as error:  # that of a container which has been removed by force meanwhile is nobody's loss
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENOENT):
                raise
            self._lost_bytes += len(data)
        else:
            self._lost_bytes = 0

    def _write(self, text: bytes) -> None:
        if not self._most_bytes:
            self._write_whole(text)
            return
        view, start = memoryview(text), 0
        while start < len(text):
            if self._size_bytes >= self._most_bytes or self._descriptor < 0:
                self._rotate()
            end = text.find(b"\n", start + max(0, self._most_bytes - self._size_bytes - 1)) + 1 or len(text)
            self._write_whole(view[start:end])
            start = end

    def _write_whole(self, text: bytes | memoryview) -> None:
        if os.write(self._descriptor, text) < len(text):
            os.ftruncate(self._descriptor, self._size_bytes)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size_bytes += len(text)

    def _rotate(self) -> None:
        if self._descriptor >= 0:  # else it was put away before, and there was no room for a new one
            if not self._put_away():
                return
            self.close()
        self._descriptor = self._open()
        self._size_bytes = 0

    def _put_away(self) -> bool:
        """Return whether the file that is written has another name now; it has to wait while others are compressed."""
        lock = lock_names(self._bundle, waits=False) if self._packs else -1
        if lock is None:
            return False
        try:
            self._shift()
        finally:
            if lock >= 0:
                os.close(lock)
        if self._packs and self._pack is not None:
            self._pack()
        return True

    def _shift(self) -> None:
        last = self._most_files - 1
        for suffix in ("", PACKED):
            _unlink(f"{self._path}.{last}{suffix}" if last else self._path + suffix)
            for number in range(last, 1, -1):
                _rename(f"{self._path}.{number - 1}{suffix}", f"{self._path}.{number}{suffix}")
        _rename(self._path, f"{self._path}.1")

    def close(self) -> None:
        """Close the log."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def lock_names(bundle: str, *, waits: bool) -> int | None:
    """Return a descriptor by whose closing other processes may give the files of a log other names again.

    None where one of them does so now, and this one does not wait for it.

    Raises:
        FileNotFoundError: the log has one file.
    """
    lock = os.open(os.path.join(bundle, LIMITS_FILE), os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError as error:
        os.close(lock)
        if error.errno != errno.EAGAIN:
            raise
        return None
    return lock


def _rename(path: str, to: str) -> None:
    try:
        os.rename(path, to)
    except FileNotFoundError:
        return


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def entries(stream: str, data: bytes, at_ns: int) -> bytes:
    """Return ``data``, which came at one instant (time of day), as lines of the log."""
    head = f"{timestamp(at_ns)} {stream} ".encode()
    *lines, rest = data.split(b"\n")
    full = b"".join((head, b"F ", (b"\n" + head + b"F ").join(lines), b"\n")) if lines else b""
    return full + (b"".join((head, b"P ", rest, b"\n")) if rest else b"")


def timestamp(at_ns: int) -> str:
    """Return a time of day (nanoseconds since the epoch) as RFC 3339 has it, in UTC with nanoseconds."""
    seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"


def _limits(bundle: str) -> tuple[int, int, bool]:
    try:
        with open(os.path.join(bundle, LIMITS_FILE), encoding="ascii") as file:
            most_bytes, most_files, *packs = map(int, file.read().split())
    except FileNotFoundError:
        return 0, 1, False
    return most_bytes, most_files, any(packs)


def _whole_bytes(descriptor: int) -> int:
    """Cut off what follows the last line's end, and return what is left."""
    size = os.fstat(descriptor).st_size
    start = size
    while start:
        start = max(0, start - _BLOCK_BYTES)
        found = os.pread(descriptor, min(_BLOCK_BYTES, size - start), start).rfind(b"\n")
        if found >= 0:
            start += found + 1
            break
    if start < size:
        os.ftruncate(descriptor, start)
    return start
