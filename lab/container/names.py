"""Ids and names of containers: who is meant by a name, an id, or the beginning of one.

containers/.names/<name>   a symbolic link to the id: made at one stroke, so that no two have one name
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable

from lab.errors import NoSuchContainer, SpecError, StateConflict

DIRECTORY = ".names"
SHORT_DIGITS = 12
_UNFINISHED_S = 60  # a name is older than this without its container only if who made it was killed
_ID_DIGITS = 64
_ID = re.compile(rf"[0-9a-f]{{{_ID_DIGITS}}}")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_WORD = re.compile(r"\w+")
_ADJECTIVES = _WORD.findall("""
agile amber brave bright calm candid clever crisp daring deft eager exact fair fleet frank gentle glad keen
kind lively lucid mellow merry modest neat nimble noble patient plain proud quick quiet ready sharp silent
sober solid spry steady stout sturdy subtle sunny swift tidy tranquil vivid warm wise witty
""")
_SURNAMES = _WORD.findall("""
allen bartik blackwell boole church codd conway corbato dahl dijkstra engelbart floyd goldberg goldstine
hamilton hoare hopper iverson johnson karp kay kernighan kilburn knuth lamarr lamport liskov lovelace mccarthy
mcilroy milner minsky naur neumann nygaard perlis rabin ritchie scott shannon stroustrup tanenbaum tarjan
thompson turing wilkes wirth zuse
""")


_DIGITS = [*"0123456789"]


def _one_of(words: list[str]) -> str:
    return words[int.from_bytes(os.urandom(4), "little") % len(words)]  # the library's own choice costs milliseconds


def new_id() -> str:
    """Return an id that nobody has: 64 hexadecimal digits."""
    while (found := os.urandom(_ID_DIGITS // 2).hex())[
        :SHORT_DIGITS
    ].isdigit():  # would be taken for a number where it is shown
        continue
    return found


class Names:
    """The names of one directory of containers."""

    def __init__(self, containers: str) -> None:
        """Nothing is made before the first name."""
        self._containers = containers
        self._directory = os.path.join(containers, DIRECTORY)

    def claim(self, name: str, container_id: str) -> None:
        """Give a name to a container that is about to be made.

        Raises:
            SpecError: it cannot be a name.
            StateConflict: another container has it.
        """
        if not _NAME.fullmatch(name):
            raise SpecError(
                f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
                hint="choose another name",
            )
        os.makedirs(self._directory, mode=0o711, exist_ok=True)
        path = os.path.join(self._directory, name)
        while True:
            try:
                os.symlink(container_id, path)
            except FileExistsError:
                self._refuse_if_taken(name, path)
            else:
                return

    def claim_any(self, container_id: str) -> str:
        """Give a container a name made of an adjective and a surname, and return it."""
        while True:
            name = f"{_one_of(_ADJECTIVES)}_{_one_of(_SURNAMES)}"
            with contextlib.suppress(StateConflict):
                self.claim(name, container_id)
                return name
            name = f"{name}{_one_of(_DIGITS)}"
            with contextlib.suppress(StateConflict):
                self.claim(name, container_id)
                return name

    def _refuse_if_taken(self, name: str, path: str) -> None:
        owner = self._owner(path)
        if owner and self._exists(owner):
            raise StateConflict(
                f'Conflict. The container name "/{name}" is already in use by container "{owner}".'
                " You have to remove (or rename) that container to be able to reuse that name."
            )
        with contextlib.suppress(FileNotFoundError):  # of a container that is gone: its maker was killed
            os.unlink(path)

    def _exists(self, container_id: str) -> bool:
        names = os.listdir(self._containers)
        return container_id in names or any(name.startswith(".new-") and name.endswith(container_id) for name in names)

    def rename(self, container_id: str, new: str) -> None:
        """Give a container another name.

        Raises:
            SpecError: it cannot be a name.
            StateConflict: another container has it.
        """
        old = self.of(container_id)
        self.claim(new, container_id)
        if old:
            os.unlink(os.path.join(self._directory, old))

    def release(self, container_id: str) -> None:
        """Take a container's name back, and those that killed commands have left; one without is no error."""
        made = {name[-_ID_DIGITS:] for name in os.listdir(self._containers)}  # those in the making as well
        for owner, name in self.all().items():
            if owner == container_id or owner not in made:
                path = os.path.join(self._directory, name)
                with contextlib.suppress(FileNotFoundError):
                    if owner == container_id or time.time() - os.lstat(path).st_mtime > _UNFINISHED_S:
                        os.unlink(path)

    def owners(self) -> dict[str, str]:
        """Return all names with the ids that they mean, whether there are such containers or not."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return {}
        return {name: self._owner(os.path.join(self._directory, name)) for name in names}

    def forget(self, name: str) -> None:
        """Take a name back whose container is gone; one that means a container by now stays."""
        path = os.path.join(self._directory, name)
        if not self._exists(self._owner(path)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def of(self, container_id: str) -> str:
        """Return the name of a container, "" if it has none."""
        return self.all().get(container_id, "")

    def all(self) -> dict[str, str]:
        """Return the names of all containers, by id."""
        return {owner: name for name, owner in self.owners().items()}

    def resolve(self, reference: str, ids: Iterable[str]) -> str:
        """Return the id that is meant by a whole id, a name, or the beginning of one id.

        Raises:
            NoSuchContainer: none is, or more than one.
        """
        known = tuple(ids)
        if reference in known:
            return reference
        owner = self._owner(os.path.join(self._directory, reference.removeprefix("/"))) if _is_plain(reference) else ""
        if owner in known:
            return owner
        found = [each for each in known if reference and _ID.fullmatch(each) and each.startswith(reference)]
        if len(found) > 1:
            raise NoSuchContainer(f"multiple IDs found with provided prefix: {reference}", hint="give more digits")
        if not found:
            raise NoSuchContainer(f"No such container: {reference}", hint="lab ps -a")
        return found[0]

    def _owner(self, path: str) -> str:
        try:
            return os.readlink(path)
        except OSError:
            return ""


def _is_plain(reference: str) -> bool:
    return bool(_NAME.fullmatch(reference.removeprefix("/")))
