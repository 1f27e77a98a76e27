"""What is undone when a container has ended: its names are forgotten at once, its ports soon after.

    containers/<id>/leave   what is to be undone: the rules that go, in nft(8)'s language, and in its comments the files
    containers/<id>/left    the same, once the end has been noted

The file is written before what it undoes is done, so a kill at any instant leaves at worst a file too many, and each
line may be carried out again. The spawner, which is to load no library and to wait for nothing, removes the files
itself and leaves the rules to nft, behind the container's lock: a start that comes meanwhile undoes first what was.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.container.loop import Loop

FILE = "leave"
_LEFT = "left"
_NAME = "# "
_LOCK, _NFT = "/usr/bin/flock", "/usr/sbin/nft"


def write(bundle: str, names: Iterable[str], rules: str) -> None:
    """Note what is to be undone: the files ``names``, and the script ``rules``; nothing noted is nothing to undo.

    Raises:
        OSError: it cannot be written.
    """
    path = os.path.join(bundle, FILE)
    text = "".join(f"{_NAME}{name}\n" for name in names) + rules
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)


def begin(loop: Loop, bundle: str) -> None:
    """Undo what can be undone at once, and have the rest done meanwhile; for a container that has ended."""
    left = os.path.join(bundle, _LEFT)
    try:
        os.rename(os.path.join(bundle, FILE), left)
        has_rules = bool(_forget_names(left))
    except OSError:  # nothing was noted; or no descriptor is left: the next command settles it
        return
    if has_rules:
        argv = (_LOCK, bundle, _NFT, "-f", left)
        try:
            process = os.pidfd_open(os.posix_spawn(_LOCK, argv, {}))
        except OSError:  # it is not there, or no process can be made: the next command settles it
            return

        def reap(_: int) -> None:
            os.waitid(os.P_PIDFD, process, os.WEXITED)
            loop.forget(process)
            os.close(process)

        loop.watch(process, reap)


def settle(bundle: str) -> None:
    """Undo what a container that does not run has left, if anything; safe to repeat, and at once by many."""
    for name in (_LEFT, FILE):
        _settle(os.path.join(bundle, name))


def rules(bundle: str) -> str:
    """Return the rules that undo what has been done for a container that runs."""
    try:
        with open(os.path.join(bundle, FILE), encoding="utf-8") as file:
            return "".join(line for line in file if not line.startswith(_NAME))
    except FileNotFoundError:
        return ""


def is_due(bundle: str) -> bool:
    """Return whether there is something to undo once the container does not run."""
    return any(os.path.exists(os.path.join(bundle, name)) for name in (_LEFT, FILE))


def settle_if_ended(bundle: str) -> None:
    """Undo what a container has left whose end has been noted; one that runs again meanwhile keeps what it has."""
    if not os.path.exists(os.path.join(bundle, _LEFT)):
        return
    try:
        lock = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _settle(os.path.join(bundle, _LEFT))
    finally:
        os.close(lock)


def _settle(path: str) -> None:
    try:
        rules = _forget_names(path)
    except FileNotFoundError:
        return  # somebody else has
    lines = rules.splitlines(keepends=True)
    if rules and not _loaded(rules):  # one that leads to somebody else by now, or a table that is gone
        for number in range(0, len(lines), 2):
            _loaded("".join(lines[number : number + 2]))
    try:
        os.unlink(path)
    except FileNotFoundError:
        return  # somebody else has


def _loaded(rules: str) -> bool:
    from lab.linux import nftables  # the spawner is not to load it

    try:
        nftables.load(rules)
    except OSError:
        return False
    return True


def _forget_names(path: str) -> str:
    """Remove the files that are named, and return the rules."""
    with open(path, encoding="utf-8") as file:
        lines = file.readlines()
    for line in lines:
        if line.startswith(_NAME):
            try:
                os.unlink(line[len(_NAME) :].rstrip("\n"))
            except FileNotFoundError:
                continue
    return "".join(line for line in lines if not line.startswith(_NAME))
