"""What a registry's refusals mean in words, and whether and when to try again; pure.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes.
"""

from __future__ import annotations

import datetime
import email.utils
import json
from collections.abc import Mapping

from lab.errors import RegistryError

TRIES = 5
_RETRIED = frozenset((408, 429, 500, 502, 503, 504))
_LONGEST_DELAY_S = 60.0
_TEXT_BYTES = 200
_BUSY_HINT = "the registry is busy or limits how often it is asked: try again later, or log in"
_LOGIN_HINT = "lab login {host}"


def is_transient(status: int) -> bool:
    """Return whether the same request may succeed later."""
    return status in _RETRIED


def delay_s(attempt: int, retry_after: str, now: datetime.datetime, *, first_s: float) -> float:
    """Return how long to wait after the ``attempt``-th failure, from 0: what the registry says, within a minute.

    Where it says nothing, ``first_s`` after the first one, and twice as long each time.

    Source: RFC 9110, section 10.2.3.
    """
    asked = _retry_after_s(retry_after.strip(), now)
    return min(first_s * 2**attempt if asked is None else max(asked, 0.0), _LONGEST_DELAY_S)


def _retry_after_s(text: str, now: datetime.datetime) -> float | None:
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        instant = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return (instant - now).total_seconds() if instant.tzinfo is not None else None


def refusal(host: str, what: str, status: int, headers: Mapping[str, str], body: bytes) -> RegistryError:
    """Return the error for an answer that is none of those that were hoped for; ``what`` was being done."""
    reason = reason_of(body, headers.get("content-type", "")) or _REASONS.get(status, "")
    if status < 400:
        reason = f"{headers.get('content-type', '') or 'nothing'}, which is no answer of a registry"
    told = f"{what}: {host} answered {status}" + (f": {reason}" if reason else "")
    return RegistryError(told, status=status, hint=_hint(host, status))


def _hint(host: str, status: int) -> str:
    if status in (401, 403):
        return _LOGIN_HINT.format(host=host)
    return _BUSY_HINT if status == 429 else ""


_REASONS = {
    401: "authentication required",
    403: "access denied",
    404: "not found",
    405: "not supported",
    429: "too many requests",
    500: "internal error",
    502: "bad gateway",
    503: "unavailable",
    504: "gateway time-out",
}


def reason_of(body: bytes, content_type: str) -> str:
    """Return what a refusal's body says, "" if it says nothing that is meant for people."""
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        is_plain = content_type.partition(";")[0].strip().lower() == "text/plain"
        return _printable(body[:_TEXT_BYTES].decode(errors="replace").partition("\n")[0]) if is_plain else ""
    return _printable("; ".join(_errors(document)))


def _errors(document: object) -> list[str]:
    if not isinstance(document, dict):
        return []
    errors = document.get("errors")
    if isinstance(errors, list):
        return [_error(each) for each in errors if isinstance(each, dict)]
    return [str(document[key]) for key in ("error_description", "details", "message", "error") if document.get(key)][:1]


def _error(entry: Mapping[str, object]) -> str:
    code = str(entry.get("code") or "").lower().replace("_", " ")
    message = str(entry.get("message") or "")
    return message if not code or code == message.lower() else f"{code}: {message}" if message else code


def _printable(text: str) -> str:
    """Return text of somebody else as it may be shown on a terminal."""
    return "".join(char for char in text if char.isprintable())[: _TEXT_BYTES * 2].strip()
