"""Who "-u" means, by the files of the image."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container import user_database as users

PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\n\n# a comment\nbroken:x:no:1::/x:/y\n"
GROUP = "root:x:0:\nwww:x:34:\nstaff:x:50:web,other\nadm:x:4:web\nodd:x\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0, (0,))),
        ("0", (0, 0, (0,))),
        ("root", (0, 0, (0,))),
        ("web", (33, 34, (34, 50, 4))),
        ("33", (33, 34, (34, 50, 4))),
        ("web:staff", (33, 50, (50,))),
        ("web:77", (33, 77, (77,))),
        ("1234", (1234, 0, (0,))),
        ("1234:www", (1234, 34, (34,))),
        (":www", (0, 34, (34,))),
        ("web:", (33, 34, (34, 50, 4))),
    ],
)
def test_a_user_is_who_docker_says_it_is(user: str, expected: users.Identity) -> None:
    assert users.identify(user, (), PASSWD, GROUP) == expected


def test_added_groups_come_last_and_once() -> None:
    assert users.identify("web", ("staff", "9", "9"), PASSWD, GROUP)[2] == (34, 50, 4, 9)


@pytest.mark.parametrize(
    ("user", "added", "message"),
    [
        ("nosuch", (), "unable to find user nosuch: no matching entries in passwd file"),
        ("broken", (), "unable to find user broken: no matching entries in passwd file"),
        ("web:nosuch", (), "unable to find group nosuch: no matching entries in group file"),
        ("web", ("nosuch",), "unable to find group nosuch: no matching entries in group file"),
        ("4294967295", (), "uids and gids must be in range 0-2147483647"),
    ],
)
def test_who_is_not_there_is_said_in_dockers_words(user: str, added: tuple[str, ...], message: str) -> None:
    with pytest.raises(LookupError, match=message):
        users.identify(user, added, PASSWD, GROUP)


@pytest.mark.parametrize(
    "passwd", ["0:x:1000:1000::/:\n" + PASSWD, "root:x:1000:1000::/:\n", "root:x:4294967296:0::/:\n"]
)
def test_what_looks_like_a_number_is_never_a_name(passwd: str) -> None:
    assert users.identify("0", (), passwd, GROUP)[0] == 0


def test_ids_that_no_kernel_has_are_none() -> None:
    passwd = "high:x:4294967296:1::/:\nweb:x:33:4294967296::/:\n" + "long:x:" + "9" * 5000 + ":1::/:\n"
    assert users.identify("web", (), passwd, "") == (33, 0, (0,))
    for name in ("high", "long"):
        with pytest.raises(LookupError, match="unable to find user"):
            users.identify(name, (), passwd, "")
    with pytest.raises(LookupError, match="in range"):
        users.identify("9" * 5000, (), passwd, "")


def test_groups_have_a_limit() -> None:
    most = tuple(map(str, range(users.MOST_GROUPS)))
    assert len(users.identify("0", most, "", "")[2]) == users.MOST_GROUPS
    with pytest.raises(LookupError, match="more than 1024 groups"):
        users.identify("0", (*most, "5000"), "", "")


def test_without_the_files_a_number_is_enough() -> None:
    assert users.identify("", (), "", "") == (0, 0, (0,))
    assert users.identify("7:8", ("9",), "", "") == (7, 8, (8, 9))


def test_home_is_the_files_or_the_root() -> None:
    assert users.home(33, PASSWD) == "/var/www"
    assert users.home(5, PASSWD) == users.home(0, "") == "/"


@given(st.text(), st.text(), st.text())
def test_any_bytes_in_the_files_give_an_answer_or_a_lookup_error(user: str, passwd: str, group: str) -> None:
    try:
        uid, gid, groups = users.identify(user, (), passwd, group)
    except LookupError:
        return
    assert min(uid, gid, *groups) >= 0
    assert gid in groups
