"""What OCI runtimes, and the engines above them, say when they cannot execute a program; pure.

They have no common exit code for it (126, 127, 128 and 255 are met), so their words decide.
"""

from __future__ import annotations

NOT_EXECUTABLE = 126
NOT_FOUND = 127
_DIRECTORY_WORDS = ("chdir to cwd", "chdir `", "initial working directory")  # runc, crun, runsc
_FOUND_WORDS = ("permission denied", "operation not permitted")
_MISSING_WORDS = ("no such file or directory", "not found")


def exit_code_of(complaint: str) -> int | None:
    """Return the shell's exit code for a program that is missing or cannot be executed; None for other failures."""
    words = complaint.lower()
    if any(known in words for known in _DIRECTORY_WORDS):
        return None  # of the working directory, not of the program
    if any(known in words for known in _FOUND_WORDS):
        return NOT_EXECUTABLE
    return NOT_FOUND if any(known in words for known in _MISSING_WORDS) else None
