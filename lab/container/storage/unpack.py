"""Layer to files: a tar stream, not trusted, becomes a directory that overlay can stack.

Whiteouts become overlay's own marks. Each entry's directory is found by the kernel with the layer's root as ``/``
(openat2, RESOLVE_IN_ROOT), and the last component is never followed, so that no entry reaches outside, whatever links
came before it. Sources: https://github.com/opencontainers/image-spec/blob/main/layer.md, kernel
Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, cast

from lab import paths
from lab.container.storage.blobs import READ_BYTES
from lab.container.storage.compression import Readable
from lab.container.storage.pack import OPAQUE, OPAQUE_XATTR, OVERLAY_XATTR, WHITEOUT, XATTR_PAX
from lab.container.storage.trees import remove_tree
from lab.container.storage.walk import DIRECTORY, open_below, pieces
from lab.errors import KernelError, LayerCorrupt
from lab.linux.openat2 import RESOLVE_IN_ROOT, openat2

RAISE_LIMITS = "if you trust it, raise LAB_LAYER_BYTES_MAX or LAB_LAYER_ENTRIES_MAX"
HEADER_LIMIT_BYTES = 1024 * 1024  # of one extended header, which tarfile keeps in memory as a whole
_FOLLOWING = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_XATTR_PREFIXES = ("user.", "security.capability", "system.posix_acl_")  # the rest belongs to the host that packed
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_ENTRY_OVERHEAD_BYTES = 8 * 1024  # headers, long names, attributes and padding of an ordinary entry
_NAME_MAX = 64 * 1024  # of an entry: trees may be deeper than paths are long, but looking a name up takes its time
_NAMES_BYTES_MAX = 256 * 1024 * 1024  # of directories in all, which are kept until their times are set
_END_BYTES = 1024 * 1024  # zeros after the last entry
_HOST_FAULTS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    *(errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackLimits:
    """What one layer may hold: number of entries, bytes of its files in all (holes count), and device nodes or none."""

    entries: int = 1_000_000
    size_bytes: int = 64 * 1024**3
    devices: bool = True

    @classmethod
    def of_the_user(cls) -> UnpackLimits:
        """Return the limits that the user has set, the usual ones where none is set.

        Raises:
            SpecError: a limit is not a number.
        """
        usual, given = cls(), paths.layer_limits()
        return cls(entries=given.get("entries", usual.entries), size_bytes=given.get("size_bytes", usual.size_bytes))

    @property
    def stream_bytes(self) -> int:
        """The length that a tar within the limits can have; longer ones are refused before they are read to the end."""
        return self.size_bytes + self.entries * _ENTRY_OVERHEAD_BYTES + _END_BYTES


def unpack(
    stream: Readable,
    directory: str,
    limits: UnpackLimits,
    *,
    subject: str,
    whiteouts: bool = True,
    replaces_kinds: bool = False,
) -> int:
    """Unpack the tar ``stream`` below ``directory``, an empty directory of ours; ``subject`` names it in errors.

    Without ``whiteouts`` it is no layer: names that begin with .wh. are names like any other, and neither does a file
    replace a directory nor a directory a file, unless it ``replaces_kinds``.

    Returns the bytes of files and of the targets of links, hard links counted once: what docker calls a layer's size.

    Raises:
        LayerCorrupt: the archive is damaged, over the limits, or has an entry that would leave its root.
        KernelError: the host refused: no space, no right.
    """
    size_bytes = 0
    replaces_kinds = replaces_kinds or whiteouts
    with _explained(subject), _Tree(directory, limits, whiteouts=whiteouts, replaces_kinds=replaces_kinds) as tree:
        source = _Source(stream, limits.stream_bytes)
        for entry in _entries(_open(source), limits):
            size_bytes += _content_bytes(entry)
            tree.add(entry, source)
        tree.set_directory_times()
    return size_bytes


def measure(stream: Readable, limits: UnpackLimits, *, subject: str) -> int:
    """Return what ``unpack`` returns, without unpacking.

    Raises:
        LayerCorrupt: the archive is damaged or over the limits.
    """
    with _explained(subject):
        tar = _open(_Source(stream, limits.stream_bytes))
        return sum(_content_bytes(entry) for entry in _entries(tar, limits))


def _content_bytes(entry: tarfile.TarInfo) -> int:
    if entry.issym():
        return len(os.fsencode(entry.linkname))
    return entry.size if entry.isreg() else 0


@contextmanager
def _explained(subject: str) -> Iterator[None]:
    """Translate what a bad archive makes tarfile and the kernel raise."""
    try:
        yield
    except tarfile.TarError as error:
        raise LayerCorrupt(f"{subject} is not a whole tar archive: {error}") from error
    except LayerCorrupt as error:
        raise LayerCorrupt(f"{subject}: {error}", hint=error.hint) from error
    except (ValueError, OverflowError, RecursionError) as error:  # a NUL in a name, a number beyond the kernel's, …
        raise LayerCorrupt(f"{subject} has an impossible entry: {error}") from error
    except OSError as error:
        if error.errno in _HOST_FAULTS:
            explained = KernelError.of("unpack", subject, error)
            if error.errno == errno.EPERM:
                explained.hint = "unpacking sets owners and makes device nodes: run as root"
            raise explained from error
        raise LayerCorrupt(f"{subject}: {error}") from error  # what it asks for is impossible


class _Source:
    """The stream as tarfile wants it: it reads headers, and goes forward over what has been taken by ``pieces``."""

    def __init__(self, stream: Readable, limit_bytes: int) -> None:
        self._stream = stream
        self._limit_bytes = limit_bytes
        self._rest = memoryview(b"")
        self._position = 0

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if size <= len(self._rest):  # nearly always
            data, self._rest = bytes(self._rest[:size]), self._rest[size:]
            self._position += size
            return data
        return b"".join(self.pieces(size))

    def seek(self, position: int) -> int:
        for _ in self.pieces(position - self._position):
            pass
        return self._position

    def pieces(self, size: int) -> Iterator[memoryview | bytes]:
        """Give the next ``size`` bytes as they come; fewer when the stream ends."""
        while size > 0:
            if not self._rest:
                self._rest = memoryview(self._stream.read(READ_BYTES))
                if not self._rest:
                    return
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            self._position += len(piece)
            if self._position > self._limit_bytes:
                raise LayerCorrupt(f"is longer than {self._limit_bytes} bytes", hint=RAISE_LIMITS)
            yield piece


def _open(source: _Source) -> tarfile.TarFile:
    return tarfile.open(
        fileobj=cast(IO[bytes], source),  # cast: reading an uncompressed archive forward needs read, tell and seek
        mode="r:",
        tarinfo=_Header,
        encoding="utf-8",
        errors="surrogateescape",
    )


class _Header(tarfile.TarInfo):
    """A header, looked at before tarfile acts on it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == 0 or not any(buf):  # the end
                raise
            # tarfile would take this for the end as well, and the rest of the layer would be missing unnoticed
            raise LayerCorrupt(f"damaged tar header: {error}") from error
        if header.type in _EXTENDED and header.size > HEADER_LIMIT_BYTES:
            raise LayerCorrupt(f"an extended header of {header.size} bytes is over the limit of {HEADER_LIMIT_BYTES}")
        return header


def _entries(tar: tarfile.TarFile, limits: UnpackLimits) -> Iterator[tarfile.TarInfo]:
    count = size_bytes = 0
    while (entry := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # typeshed hides it, and tarfile would keep every entry
        count += 1
        size_bytes += entry.size if entry.isreg() else 0
        if count > limits.entries:
            raise LayerCorrupt(f"has more than {limits.entries} entries", hint=RAISE_LIMITS)
        if entry.size < 0 or size_bytes > limits.size_bytes:
            raise LayerCorrupt(
                f"'{entry.name}' of {entry.size} bytes is over the layer's limit of {limits.size_bytes}",
                hint=RAISE_LIMITS,
            )
        yield entry


def parts_of(name: str) -> tuple[str, ...]:
    """Return the components of an entry's name, () for the root itself; the layer's root is the root of all names.

    Raises:
        LayerCorrupt: it goes up, or is longer than any tree needs.
    """
    if len(name) > _NAME_MAX:
        raise LayerCorrupt(f"a name of {len(name)} characters is over the limit of {_NAME_MAX}")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise LayerCorrupt(f"'{name}' leaves the layer's root")
    return parts


def _name_of(parts: tuple[str, ...]) -> str:
    return "/".join(parts)


class _Tree:
    """The directory being filled; keeps the last parent directory open, since entries come in order."""

    def __init__(self, root: str, limits: UnpackLimits, *, whiteouts: bool, replaces_kinds: bool) -> None:
        self._root_fd = os.open(root, _FOLLOWING)
        self._whiteouts, self._replaces_kinds = whiteouts, replaces_kinds
        self._limits = limits
        self._parent: tuple[tuple[str, ...], int] | None = None
        self._directory_times: dict[str, int] = {}
        self._names_bytes = 0
        self._makers: dict[bytes, Callable[[tarfile.TarInfo, _Source, str, int], None]] = {
            tarfile.REGTYPE: self._file,
            tarfile.AREGTYPE: self._file,
            tarfile.CONTTYPE: self._file,
            tarfile.GNUTYPE_SPARSE: self._file,
            tarfile.LNKTYPE: self._hard_link,
            tarfile.SYMTYPE: self._symlink,
            tarfile.CHRTYPE: self._node,
            tarfile.BLKTYPE: self._node,
            tarfile.FIFOTYPE: self._node,
        }

    def __enter__(self) -> _Tree:
        return self

    def __exit__(self, *exception: object) -> None:
        self._forget_parent()
        os.close(self._root_fd)

    def add(self, entry: tarfile.TarInfo, source: _Source) -> None:
        """Make what one entry describes."""
        parts = parts_of(entry.name)
        if not parts or entry.isdir():
            self._directory(entry, parts)
            return
        parent, name = self._parent_fd(parts[:-1]), parts[-1]
        if self._whiteouts and name.startswith(WHITEOUT):
            self._whiteout(name, parent)
            return
        if entry.type not in self._makers:
            raise LayerCorrupt(f"'{entry.name}' has the unknown type {entry.type!r}")
        try:
            self._makers[entry.type](entry, source, name, parent)
        except FileExistsError:  # a later entry replaces an earlier one
            self._remove(name, parent)
            self._makers[entry.type](entry, source, name, parent)

    def set_directory_times(self) -> None:
        """Set the directories' times, which making their content has changed."""
        for name, mtime_ns in self._directory_times.items():
            with suppress(FileNotFoundError, NotADirectoryError):  # replaced by a later entry
                descriptor = self._open_directory(parts_of(name))
                os.utime(descriptor, ns=(mtime_ns, mtime_ns))
                os.close(descriptor)

    def _open_directory(self, parts: tuple[str, ...]) -> int:
        """Open a directory as if the root were ``/``; of a path too long for the kernel, the rest has no links."""
        first, *rest = pieces(_name_of(parts))
        descriptor = openat2(self._root_fd, first or ".", _FOLLOWING, 0, RESOLVE_IN_ROOT)
        if not rest:
            return descriptor
        try:
            return open_below(descriptor, "/".join(rest))
        finally:
            os.close(descriptor)

    def _parent_fd(self, parts: tuple[str, ...]) -> int:
        if self._parent is not None and self._parent[0] == parts:
            return self._parent[1]
        try:
            descriptor = self._inside_parent(parts)
            if descriptor is None:
                descriptor = self._open_directory(parts)
        except FileNotFoundError:
            descriptor = self._make_missing(parts)
        self._forget_parent()
        self._parent = (parts, descriptor)
        return descriptor

    def _inside_parent(self, parts: tuple[str, ...]) -> int | None:
        """Open a directory in the last one, which is nearer than the root; None if it is a link, or elsewhere."""
        if self._parent is None or self._parent[0] != parts[:-1]:
            return None
        try:
            return os.open(parts[-1], DIRECTORY, dir_fd=self._parent[1])
        except NotADirectoryError:
            return None

    def _forget_parent(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _make_missing(self, parts: tuple[str, ...]) -> int:
        """Open a directory after having made it, and those above it, where they are not there."""
        descriptor = self._open_directory(())
        for depth, name in enumerate(parts, start=1):
            above = descriptor
            try:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=above)
                descriptor = os.open(name, DIRECTORY, dir_fd=above)
            except NotADirectoryError:  # a link, which is followed inside the root
                descriptor = self._open_directory(parts[:depth])
            finally:
                os.close(above)
        return descriptor

    def _directory(self, entry: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
        if parts:
            self._make_directory(parts[-1], self._parent_fd(parts[:-1]))
        descriptor = self._open_own_directory(parts)
        try:
            _set_attributes(descriptor, entry)
        finally:
            os.close(descriptor)
        self._directory_times[_name_of(parts)] = _mtime_ns(entry)
        self._names_bytes += len(entry.name)
        if self._names_bytes > _NAMES_BYTES_MAX:
            raise LayerCorrupt(f"the names of its directories are longer than {_NAMES_BYTES_MAX} bytes in all")

    def _open_own_directory(self, parts: tuple[str, ...]) -> int:
        if not parts:
            return self._open_directory(())
        return os.open(parts[-1], DIRECTORY, dir_fd=self._parent_fd(parts[:-1]))

    def _make_directory(self, name: str, parent: int) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                return
            if not self._replaces_kinds:
                raise LayerCorrupt(f'cannot overwrite non-directory "{name}" with directory') from None
            hides_lower = _is_whiteout(status)
            self._remove(name, parent)
            os.mkdir(name, 0o700, dir_fd=parent)
            if hides_lower:  # what the whiteout hid must not show through
                os.setxattr(_path(name, parent), OPAQUE_XATTR, b"y", follow_symlinks=False)

    def _file(self, entry: tarfile.TarInfo, source: _Source, name: str, parent: int) -> None:
        descriptor = os.open(name, _FILE, 0o600, dir_fd=parent)
        try:
            _copy_content(entry, source, descriptor)
            _set_attributes(descriptor, entry)
            os.utime(descriptor, ns=(_mtime_ns(entry), _mtime_ns(entry)))
        finally:
            os.close(descriptor)

    def _hard_link(self, entry: tarfile.TarInfo, _: _Source, name: str, parent: int) -> None:
        target = parts_of(entry.linkname)
        if not target:
            raise LayerCorrupt(f"'{entry.name}' is a hard link to the root")
        source_parent = self._open_directory_of_link(entry, target[:-1])
        try:
            os.link(target[-1], name, src_dir_fd=source_parent, dst_dir_fd=parent, follow_symlinks=False)
        except (FileNotFoundError, PermissionError) as error:  # EPERM: a directory
            raise LayerCorrupt(f"'{entry.name}' is a hard link to '{entry.linkname}': {error.strerror}") from error
        finally:
            os.close(source_parent)

    def _open_directory_of_link(self, entry: tarfile.TarInfo, parts: tuple[str, ...]) -> int:
        try:
            return self._open_directory(parts)
        except FileNotFoundError as error:
            raise LayerCorrupt(f"'{entry.name}' is a hard link to '{entry.linkname}', which is not there") from error

    def _symlink(self, entry: tarfile.TarInfo, _: _Source, name: str, parent: int) -> None:
        os.symlink(entry.linkname, name, dir_fd=parent)
        if _is_root():
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(_mtime_ns(entry), _mtime_ns(entry)), dir_fd=parent, follow_symlinks=False)

    def _node(self, entry: tarfile.TarInfo, _: _Source, name: str, parent: int) -> None:
        if not self._limits.devices and not entry.isfifo():
            raise LayerCorrupt(f"'{entry.name}' is a device node, which is not allowed here")
        device = 0 if entry.isfifo() else os.makedev(entry.devmajor, entry.devminor)
        if entry.ischr() and device == 0:
            raise LayerCorrupt(f"'{entry.name}' is a character device 0:0, which overlay takes for a whiteout")
        if not _is_root() and not entry.isfifo():
            return  # no container of this user could open it
        os.mknod(name, stat.S_IFMT(_NODE_FORMAT[entry.type]) | 0o600, device, dir_fd=parent)
        if _is_root():
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.chmod(name, stat.S_IMODE(entry.mode), dir_fd=parent)  # a node of ours: not a link
        os.utime(name, ns=(_mtime_ns(entry), _mtime_ns(entry)), dir_fd=parent, follow_symlinks=False)

    def _whiteout(self, name: str, parent: int) -> None:
        if name == OPAQUE:
            os.setxattr(parent, OPAQUE_XATTR, b"y")
            return
        hidden = name.removeprefix(WHITEOUT)
        if hidden.startswith(WHITEOUT) or hidden in ("", ".", ".."):
            return  # bookkeeping of aufs, which says nothing about files
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:  # the layer has it as well: only what is below is hidden
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent, follow_symlinks=False).st_mode):
                os.setxattr(_path(hidden, parent), OPAQUE_XATTR, b"y", follow_symlinks=False)

    def _remove(self, name: str, parent: int) -> None:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            if not self._replaces_kinds:
                raise LayerCorrupt(f'cannot overwrite directory "{name}" with non-directory')
            remove_tree(_path(name, parent))
        else:
            os.unlink(name, dir_fd=parent)


_NODE_FORMAT = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}


def _is_root() -> bool:
    """Return whether files can have the owners that a layer says; an ordinary user's are all his."""
    return os.geteuid() == 0


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _path(name: str, parent: int) -> str:
    return f"/proc/self/fd/{parent}/{name}"


def _mtime_ns(entry: tarfile.TarInfo) -> int:
    return int(entry.mtime * 1_000_000_000)


def _copy_content(entry: tarfile.TarInfo, source: _Source, descriptor: int) -> None:
    # typeshed does not know TarInfo.sparse: [(offset, size)] of the parts that are no holes, None when there are none
    parts: list[tuple[int, int]] | None = getattr(entry, "sparse", None)
    if parts is None:
        _copy(source, descriptor, entry.size)
        return
    for offset, size in parts:
        if offset + size > entry.size:
            raise LayerCorrupt(f"'{entry.name}' has data beyond its end")
        os.lseek(descriptor, offset, os.SEEK_SET)
        _copy(source, descriptor, size)
    os.truncate(descriptor, entry.size)  # for a hole at the end


def _copy(source: _Source, descriptor: int, size: int) -> None:
    # The source stands at the entry's data, pieces one after the other; tarfile's own file objects cost a third more
    # time for small files, and copy everything once more.
    for piece in source.pieces(size):
        size -= len(piece)
        while piece:
            piece = piece[os.write(descriptor, piece) :]
    if size:
        raise LayerCorrupt("ends in the middle of a file")


def _set_attributes(descriptor: int, entry: tarfile.TarInfo) -> None:
    if _is_root():
        os.fchown(descriptor, entry.uid, entry.gid)
    os.fchmod(descriptor, stat.S_IMODE(entry.mode))  # after chown, which clears set-user-id
    for header, value in entry.pax_headers.items():
        if header.startswith(XATTR_PAX):
            _set_xattr(descriptor, header.removeprefix(XATTR_PAX), value, entry)


def _set_xattr(descriptor: int, name: str, value: str, entry: tarfile.TarInfo) -> None:
    if name.startswith(OVERLAY_XATTR):
        raise LayerCorrupt(f"'{entry.name}' carries {name}, which would steer overlay on this host")
    if name.startswith(_XATTR_PREFIXES) and (_is_root() or name != "security.capability"):
        os.setxattr(descriptor, name, value.encode("utf-8", "surrogateescape"))
