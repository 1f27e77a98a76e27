"""Who a name or number is, by the /etc/passwd and /etc/group of a container's root file system; pure.

It runs between fork and exec, inside the container's root, so it imports nothing. The rules are docker's: a name has to
be in the file, a number need not be; without a group the user's own counts, and then also each group that lists it.

Source: docs.docker.com/reference/cli/docker/container/run, "--user" and "--group-add"; man passwd(5), group(5).
"""

from __future__ import annotations

HIGHEST_ID = 2**31 - 1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Identity = tuple[int, int, tuple[int, ...]]
    """uid, gid, and the supplementary groups, the primary one included."""


def identify(user: str, additional_groups: tuple[str, ...], passwd: str, group: str) -> Identity:
    """Return who "USER[:GROUP]" is, each a name or a number, given the texts of the two files; "" is root.

    Raises:
        LookupError: a name is in neither file, or a number is out of range.
    """
    name, _, group_name = (user or "0").partition(":")
    known = _find_user(name or "0", passwd)
    login, uid, gid = known or ("", _number(name, "user", "passwd"), 0)
    if group_name:
        gid = _gid(group_name, group)
    listed = _groups_of(login, group) if login and not group_name else ()
    others = tuple(_gid(each, group) for each in additional_groups)
    return uid, gid, tuple(dict.fromkeys((gid, *listed, *others)))


def home(uid: int, passwd: str) -> str:
    """Return the home directory of a user, "/" for one that the file does not have."""
    return next((fields[5] for fields in _lines(passwd, 6) if fields[2] == str(uid)), "") or "/"


def _find_user(wanted: str, passwd: str) -> tuple[str, int, int] | None:
    for fields in _lines(passwd, 4):
        if wanted in (fields[0], fields[2]) and _is_number(fields[2]):
            return fields[0], int(fields[2]), int(fields[3]) if _is_number(fields[3]) else 0
    return None


def _groups_of(login: str, group: str) -> Iterator[int]:
    for line in group.split("\n"):
        if login in line.rpartition(":")[2].strip().split(","):
            yield from (number for _, number in _groups(line))


def _gid(wanted: str, group: str) -> int:
    for name, number in _groups(group):
        if wanted in (name, str(number)):
            return number
    return _number(wanted, "group", "group")


def _groups(group: str) -> Iterator[tuple[str, int]]:
    for fields in _lines(group, 3):
        if _is_number(fields[2]):
            yield fields[0], int(fields[2])


def _lines(text: str, least: int) -> Iterator[list[str]]:
    for line in text.split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= least:
            yield fields


def _number(text: str, kind: str, file: str) -> int:
    if not _is_number(text):
        raise LookupError(f"unable to find {kind} {text}: no matching entries in {file} file")
    if int(text) > HIGHEST_ID:
        raise LookupError(f"uids and gids must be in range 0-{HIGHEST_ID}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isdecimal() and text.isascii()
