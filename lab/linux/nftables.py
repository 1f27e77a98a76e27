"""nftables in this process, through libnftables: a transaction costs 3 ms, where starting nft(8) costs 15 and more.

Source: man libnftables(3).
"""

from __future__ import annotations

import os
from functools import cache
from typing import cast

from lab.linux.libc import load_library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LIBRARY = "libnftables.so.1"
_JSON = 1 << 4  # NFT_CTX_OUTPUT_JSON
_EPERM, _ENOENT, _EEXIST, _EBUSY, _EINVAL = 1, 2, 17, 16, 22
_PROTOTYPES = {
    "nft_ctx_new": "pu",
    "nft_ctx_free": "vp",
    "nft_ctx_buffer_output": "ip",
    "nft_ctx_buffer_error": "ip",
    "nft_ctx_output_set_flags": "vpu",
    "nft_run_cmd_from_buffer": "ips",
    "nft_ctx_get_output_buffer": "sp",
    "nft_ctx_get_error_buffer": "sp",
}


@cache
def _functions() -> Mapping[str, Callable[..., int]]:
    return load_library(_LIBRARY, _PROTOTYPES)


def load(script: str) -> None:
    """Carry out statements of nft(8)'s language as one transaction: all of them, or none.

    Raises:
        OSError: with the library's own words, and EEXIST, ENOENT, EPERM or EBUSY where these say so, else EINVAL; its
            file name is the library if that is not there.
    """
    _run(script, flags=0)


def listing(command: str) -> bytes:
    """Return what a list command gives, as JSON. Source: man libnftables-json(5).

    Raises:
        OSError: as ``load``.
    """
    return _run(command, flags=_JSON)


def _run(script: str, *, flags: int) -> bytes:
    call = _functions()
    context = call["nft_ctx_new"](0)
    try:
        call["nft_ctx_buffer_output"](context)
        call["nft_ctx_buffer_error"](context)
        call["nft_ctx_output_set_flags"](context, flags)
        if call["nft_run_cmd_from_buffer"](context, script.encode()):
            words = _text(call["nft_ctx_get_error_buffer"](context)).decode(errors="replace")
            raise _error(words.partition("\n")[0].removeprefix("Error: "))
        return _text(call["nft_ctx_get_output_buffer"](context))
    finally:
        call["nft_ctx_free"](context)


def _text(value: int) -> bytes:
    return cast(bytes, value) or b""  # cast: the letter "s" as a result is bytes, or None where there are none


def _error(words: str) -> OSError:
    known = (number for number in (_EPERM, _ENOENT, _EEXIST, _EBUSY) if os.strerror(number) in words)
    return OSError(next(known, _EINVAL), words or "refused", "nftables")
