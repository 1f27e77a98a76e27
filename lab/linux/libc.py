"""The only ctypes of the house: libc's handle, raw system calls, and other shared libraries by prototype.

Everything here raises ``OSError`` with errno, its text and the object that it was about. This file runs between
fork and exec as well, so it imports ctypes and os and nothing else; what an argument means is said by its callers
in this package.

Source: man syscall(2); the numbers from the kernel's ``arch/x86/entry/syscalls/syscall_64.tbl`` and
``include/uapi/asm-generic/unistd.h`` (aarch64).
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs milliseconds on the container start path
    from collections.abc import Callable, Mapping

# All calls from 424 on have the same number on every architecture.
_SINCE_5_1 = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}
_NUMBERS = {
    "x86_64": {
        "mount": 165,
        "getcwd": 79,
        "umount2": 166,
        "pivot_root": 155,
        "sethostname": 170,
        "setdomainname": 171,
        "capget": 125,
        "capset": 126,
        "prctl": 157,
        "unshare": 272,
        "setns": 308,
        "seccomp": 317,
        "ioctl": 16,
        "bpf": 321,
        "keyctl": 250,
        "inotify_add_watch": 254,
        "inotify_init1": 294,
        "syncfs": 306,
        "tee": 276,
        "openat": 257,
        "read": 0,
        "write": 1,
        "close": 3,
        "mkdirat": 258,
        "mknodat": 259,
        "fchmodat": 268,
        "symlinkat": 266,
        "statx": 332,
        "chdir": 80,
        "dup3": 292,
        "socket": 41,
        "prlimit64": 302,
        "setgroups": 116,
        "setresgid": 119,
        "setresuid": 117,
        "umask": 95,
        "setsid": 112,
        "rt_sigaction": 13,
        "execve": 59,
        "fchown": 93,
        "fchownat": 260,
        "chroot": 161,
        **_SINCE_5_1,
    },
    "aarch64": {
        "mount": 40,
        "getcwd": 17,
        "umount2": 39,
        "pivot_root": 41,
        "sethostname": 161,
        "setdomainname": 162,
        "capget": 90,
        "capset": 91,
        "prctl": 167,
        "unshare": 97,
        "setns": 268,
        "seccomp": 277,
        "ioctl": 29,
        "bpf": 280,
        "keyctl": 219,
        "inotify_init1": 26,
        "inotify_add_watch": 27,
        "syncfs": 267,
        "tee": 77,
        "openat": 56,
        "read": 63,
        "write": 64,
        "close": 57,
        "mkdirat": 34,
        "mknodat": 33,
        "fchmodat": 53,
        "symlinkat": 36,
        "statx": 291,
        "chdir": 49,
        "dup3": 24,
        "socket": 198,
        "prlimit64": 261,
        "setgroups": 159,
        "setresgid": 149,
        "setresuid": 147,
        "umask": 166,
        "setsid": 157,
        "rt_sigaction": 134,
        "execve": 221,
        "fchown": 55,
        "fchownat": 54,
        "chroot": 51,
        **_SINCE_5_1,
    },
}

MACHINE = os.uname().machine
SYSCALL_NUMBERS = _NUMBERS.get(MACHINE, _SINCE_5_1)

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
# Only the number has a declared type: the rest is variadic, and each argument is converted by its Python type.
_syscall.argtypes = (ctypes.c_long,)
_syscall.restype = ctypes.c_long
_syscall_holding_gil = ctypes.PyDLL(None, use_errno=True).syscall
_syscall_holding_gil.argtypes = (ctypes.c_long,)
_syscall_holding_gil.restype = ctypes.c_long

_c_long = ctypes.c_long


def syscall(name: str, *arguments: int | bytes | bytearray | None, path: str = "") -> int:
    """Make a raw system call and return its result.

    An ``int`` is passed as a 64-bit word, ``bytes`` as a pointer to NUL-terminated memory that the kernel only reads,
    a ``bytearray`` as a pointer to memory that it may write, None as NULL.

    Raises:
        OSError: with errno and, when given, ``path``; ENOSYS too where this architecture has no number for ``name``.
    """
    number = SYSCALL_NUMBERS.get(name)
    if number is None:
        raise OSError(38, f"{name}: {os.strerror(38)}", path or None)
    result: int = _syscall(number, *[_to_c(argument) for argument in arguments])
    if result < 0:
        raise_errno(name, path)
    return result


def syscall_holding_gil(name: str, *arguments: int | bytes | bytearray | None, path: str = "") -> int:
    """Make a raw system call as ``syscall`` does, without letting other Python threads run: for clone3.

    Raises:
        OSError: with errno and, when given, ``path``.
    """
    result: int = _syscall_holding_gil(SYSCALL_NUMBERS[name], *[_to_c(argument) for argument in arguments])
    if result < 0:
        raise_errno(name, path)
    return result


def _to_c(argument: int | bytes | bytearray | None) -> ctypes.c_long | bytes | ctypes.Array[ctypes.c_char] | None:
    if isinstance(argument, int):
        return _c_long(argument)
    if isinstance(argument, bytearray):
        return (ctypes.c_char * len(argument)).from_buffer(argument)
    return argument


def raise_errno(operation: str, path: str) -> None:
    """Raise what the last call left in errno: "move_mount: Invalid argument: '/target'"."""
    number = ctypes.get_errno()
    raise OSError(number, f"{operation}: {os.strerror(number)}", path or None)


def address_of(buffer: bytearray) -> int:
    """Return the address of a buffer, for structures that point to others; the caller keeps it alive, unresized."""
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))


def address_of_bytes(buffer: bytes) -> int:
    """Return the address of constant memory that the kernel only reads; the caller keeps it alive."""
    return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0


_TYPES: dict[str, object] = {
    "i": ctypes.c_int,
    "u": ctypes.c_uint32,
    "q": ctypes.c_uint64,
    "p": ctypes.c_void_p,
    "s": ctypes.c_char_p,
    "v": None,
}


def load_library(name: str, prototypes: Mapping[str, str]) -> Mapping[str, Callable[..., int]]:
    """Load a shared library and return its functions, typed: ``{"seccomp_init": "pu"}`` is result, then arguments.

    Letters: i int, u uint32, q uint64, p pointer, s constant string or memory, v void.

    Raises:
        OSError: the library, or one of the functions, is not there.
    """
    library = ctypes.CDLL(name, use_errno=True)
    functions: dict[str, Callable[..., int]] = {}
    for symbol, letters in prototypes.items():
        try:
            function = getattr(library, symbol)
        except AttributeError as error:
            raise OSError(38, f"no function {symbol}", name) from error
        function.restype = _TYPES[letters[0]]
        function.argtypes = [_TYPES[letter] for letter in letters[1:]]
        functions[symbol] = function
    return functions
