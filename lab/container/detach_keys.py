"""The keys that leave a terminal and let its container go on, found in what is typed; pure.

Source: docs.docker.com/reference/cli/docker/container/attach, "Override the detach sequence".
"""

from __future__ import annotations

from lab.errors import SpecError

DETACH_KEYS = "ctrl-p,ctrl-q"


class Detached(Exception):  # noqa: N818 - what happened, not a fault
    """The user has typed the detach keys; the container goes on. ``typed`` came before them."""

    def __init__(self, typed: bytes = b"") -> None:
        super().__init__()
        self.typed = typed


def detach_sequence(text: str) -> bytes:
    """Return the bytes of detach keys as docker writes them: "ctrl-p,ctrl-q", "a,b".

    Raises:
        SpecError: a key is none.
    """
    found = bytearray()
    for key in text.split(",") if text else ():
        if len(key) == 1:
            found += key.encode()
        elif len(key) == 6 and key.startswith("ctrl-") and (key[5].isalpha() or key[5] in "@[\\]^_"):
            found.append(ord(key[5].upper()) & 0x1F)
        else:
            raise SpecError(f"invalid detach keys: unknown character: '{key}'", hint="such as ctrl-p,ctrl-q")
    return bytes(found)


class DetachFilter:
    """Looks for the detach keys in what is typed; what only began like them is typed after all."""

    def __init__(self, sequence: bytes) -> None:
        """An empty sequence is never found."""
        self._sequence = sequence
        self._seen = 0

    def feed(self, data: bytes) -> bytes:
        """Return what is to be typed of ``data``.

        Raises:
            Detached: the keys are complete.
        """
        typed = bytearray()
        for byte in data:
            if self._sequence and byte == self._sequence[self._seen]:
                self._seen += 1
                if self._seen == len(self._sequence):
                    raise Detached(bytes(typed))
                continue
            typed += self._sequence[: self._seen]
            self._seen = 0
            if self._sequence and byte == self._sequence[0]:
                self._seen = 1
                if len(self._sequence) == 1:
                    raise Detached(bytes(typed))
            else:
                typed.append(byte)
        return bytes(typed)
