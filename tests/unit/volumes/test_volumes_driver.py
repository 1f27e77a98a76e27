"""Options of docker's local driver: what is refused, and what is to be mounted."""

from __future__ import annotations

import pytest

from lab.container.volumes import driver
from lab.errors import SpecError
from lab.linux import mount


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"what": "1"}, 'invalid option: "what"'),
        ({"type": "nfs"}, 'missing required option: "device"'),
        ({"device": "/x"}, 'missing required option: "type"'),
        ({"o": "bind", "device": "/x"}, 'missing required option: "type"'),
        ({"size": "much"}, "invalid size: 'much'"),
        ({"size": "4k"}, "a volume of 4k is too small"),
        ({"size": "4m", "type": "tmpfs", "device": "tmpfs"}, "a size is for volumes of the lab's own"),
    ],
)
def test_what_no_volume_can_be_made_of_is_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        driver.check(options)
    assert words in str(caught.value)


def test_flags_are_told_from_what_is_the_file_systems_own_and_the_last_word_counts() -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "ro,size=1m,nosuid,noexec,rw,exec,uid=7"}
    driver.check(options)
    wanted = driver.HostMount(fstype="tmpfs", source="tmpfs", flags=mount.MS_NOSUID, data="size=1m,uid=7")
    assert driver.host_mount(options) == wanted
    assert (driver.is_mounted(options), driver.is_bind(options), driver.is_forgotten(options)) == (True, False, True)


def test_a_network_file_system_is_mounted_from_an_address() -> None:
    found = driver.host_mount({"type": "nfs", "device": ":/srv", "o": "rw,addr=files.example,vers=4"})
    assert found.address == "files.example"
    assert found.at_address("192.0.2.7").data == "addr=192.0.2.7,vers=4"


def test_a_password_is_not_shown() -> None:
    found = driver.host_mount({"type": "cifs", "device": "//x/y", "o": "addr=192.0.2.7,password=a=b,vers=3"})
    assert found.data == "addr=192.0.2.7,password=a=b,vers=3"
    assert found.shown_data == "addr=192.0.2.7,password=********,vers=3"


def test_a_directory_of_the_host_is_not_mounted_and_a_size_is() -> None:
    bind = {"type": "none", "device": "/srv", "o": "bind,ro"}
    assert (driver.is_bind(bind), driver.is_mounted(bind), driver.is_writable(bind)) == (True, False, False)
    assert driver.is_mounted({"size": "64m"})
    assert driver.size_bytes({"size": "64m"}) == 64 << 20
    assert not driver.is_mounted({})
