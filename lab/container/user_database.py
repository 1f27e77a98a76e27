"""Who a name or number is, by the /etc/passwd and /etc/group of a container's root file system; pure.

It runs between fork and exec, inside the container's root, so it imports nothing; ``machine.c`` has the same rules,
which are docker's: a name has to be in the file, a number need not be, and is never taken for a name; without a group
the user's own counts, and then also each group that lists it.

Source: docs.docker.com/reference/cli/docker/container/run, "--user" and "--group-add"; man passwd(5), group(5).
"""

from __future__ import annotations

HIGHEST_ID = 2**31 - 1
MOST_GROUPS = 1024
_DIGITS = 10
_SPACE = " \t\r\v\f"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Identity = tuple[int, int, tuple[int, ...]]
    """uid, gid, and the supplementary groups, the primary one included."""


def identify(user: str, additional_groups: tuple[str, ...], passwd: str, group: str) -> Identity:
    """Return who "USER[:GROUP]" is, each a name or a number, given the texts of the two files; "" is root.

    Raises:
        LookupError: a name is in neither file, a number is out of range, or there are more groups than MOST_GROUPS.
    """
    name, _, group_name = (user or "0").partition(":")
    known = _find_user(name or "0", passwd)
    login, uid, gid = known or ("", _number(name, "user", "passwd"), 0)
    if group_name:
        gid = _gid(group_name, group)
    listed = _groups_of(login, group) if login and not group_name else ()
    others = tuple(_gid(each, group) for each in additional_groups)
    groups = tuple(dict.fromkeys((gid, *listed, *others)))
    if len(groups) > MOST_GROUPS:
        raise LookupError(f"user {name or '0'} is in more than {MOST_GROUPS} groups")
    return uid, gid, groups


def home(uid: int, passwd: str) -> str:
    """Return the home directory of a user, "/" for one that the file does not have."""
    return next((fields[5] for fields in _lines(passwd, 6) if _id(fields[2]) == uid), "") or "/"


def _find_user(wanted: str, passwd: str) -> tuple[str, int, int] | None:
    for fields in _lines(passwd, 4):
        uid = _id(fields[2])
        if uid is not None and _is(wanted, fields[0], uid):
            return fields[0], uid, _id(fields[3]) or 0
    return None


def _is(wanted: str, name: str, number: int) -> bool:
    # what looks like a number is one, whatever an image calls its users
    return _id(wanted) == number if _is_number(wanted) else wanted == name


def _groups_of(login: str, group: str) -> Iterator[int]:
    for line in group.split("\n"):
        if login in line.rpartition(":")[2].strip(_SPACE).split(","):
            yield from (number for _, number in _groups(line))


def _gid(wanted: str, group: str) -> int:
    found = (number for name, number in _groups(group) if _is(wanted, name, number))
    number = next(found, None)
    return _number(wanted, "group", "group") if number is None else number


def _groups(group: str) -> Iterator[tuple[str, int]]:
    for fields in _lines(group, 3):
        number = _id(fields[2])
        if number is not None:
            yield fields[0], number


def _lines(text: str, least: int) -> Iterator[list[str]]:
    for line in text.split("\n"):
        fields = line.strip(_SPACE).split(":")
        if len(fields) >= least:
            yield fields


def _number(text: str, kind: str, file: str) -> int:
    if not _is_number(text):
        raise LookupError(f"unable to find {kind} {text}: no matching entries in {file} file")
    number = _id(text)
    if number is None:
        raise LookupError(f"uids and gids must be in range 0-{HIGHEST_ID}")
    return number


def _id(text: str) -> int | None:
    """Return an id of the files; None for what is not one."""
    if not _is_number(text) or len(text.lstrip("0")) > _DIGITS or int(text) > HIGHEST_ID:
        return None
    return int(text)


def _is_number(text: str) -> bool:
    return text.isdecimal() and text.isascii()
