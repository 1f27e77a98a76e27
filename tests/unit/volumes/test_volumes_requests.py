"""--volume, --mount and VOLUME as requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.options.mounts import MountRequest, document, requests, tmpfs_of_mounts, volume
from lab.container.volumes.model import MountType
from lab.errors import SpecError

VOLUME, BIND = MountType.VOLUME, MountType.BIND


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("data:/d", MountRequest(type=VOLUME, source="data", destination="/d", mode="z")),
        ("data:/d:ro", MountRequest(type=VOLUME, source="data", destination="/d", mode="ro", writable=False)),
        ("data:/d:nocopy", MountRequest(type=VOLUME, source="data", destination="/d", mode="nocopy", copies=False)),
        ("/h/:/d/:Z", MountRequest(type=BIND, source="/h", destination="/d", mode="Z")),
        ("/h:/d:rslave,ro", MountRequest(
            type=BIND, source="/h", destination="/d", mode="rslave,ro", writable=False, propagation="rslave")),
    ],
)  # fmt: skip
def test_a_volume_flag_is_read_as_docker_reads_it(text: str, wanted: MountRequest) -> None:
    assert volume(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("src=data,dst=/d", MountRequest(type=VOLUME, source="data", destination="/d", mode="z")),
        ("destination=/d", MountRequest(type=VOLUME, destination="/d", mode="z")),
        ("type=bind,source=/h,target=/d,readonly", MountRequest(
            type=BIND, source="/h", destination="/d", writable=False, required=True)),
        ("type=bind,src=/h,dst=/d,ro=false,bind-propagation=rshared,bind-recursive=disabled", MountRequest(
            type=BIND, source="/h", destination="/d", propagation="rshared", recursive=False, required=True)),
        ('type=volume,src=data,dst=/d,volume-nocopy,volume-subpath=a/b,volume-label=x=1,"volume-label=y=2,3"',
            MountRequest(type=VOLUME, source="data", destination="/d", mode="z", copies=False, subpath="a/b",
            labels={"x": "1", "y": "2,3"})),
        ("type=bind,src=/h,dst=/d,ro,bind-recursive=writable", MountRequest(
            type=BIND, source="/h", destination="/d", writable=False, read_only_top=True, required=True)),
        ("type=bind,src=/h,dst=/d,ro,bind-recursive=readonly,bind-propagation=rprivate", MountRequest(
            type=BIND, source="/h", destination="/d", writable=False, propagation="rprivate", required=True)),
    ],
)  # fmt: skip
def test_a_mount_flag_is_read_as_docker_reads_it(text: str, wanted: MountRequest) -> None:
    assert requests((), (text,), ()) == (wanted,)


@pytest.mark.parametrize(
    ("volumes", "mounts", "text"),
    [
        (("a:b:c:d",), (), "invalid volume specification: 'a:b:c:d'"),
        (("data:d",), (), "mount path: 'd' must be absolute"),
        (("data:/d:what",), (), "invalid mode: what"),
        (("data:/d:rslave",), (), "invalid mode: rslave"),
        (("/h:/d:nocopy",), (), "invalid mode: nocopy"),
        (("data:/",), (), "destination can't be '/'"),
        (("d",), (), "mount path must be absolute"),
        (("a1:/d", "b1:/d"), (), "Duplicate mount point: /d"),
        (("a1:/d",), ("src=b1,dst=/d",), "Duplicate mount point: /d"),
        ((), ("src=a1",), "target is required"),
        ((), ("dst=/d,what=1",), "unexpected key 'what' in 'what=1'"),
        ((), ("dst=/d,src",), "invalid field 'src' must be a key=value pair"),
        ((), ("type=bind,dst=/d",), "field Source must not be empty"),
        ((), ("type=bind,src=/h,dst=/d,volume-nocopy",), "cannot mix 'volume-*' options with mount type 'bind'"),
        ((), ("src=a1,dst=/d,readonly=perhaps",), "invalid value for readonly: perhaps"),
        ((), ("src=a1,dst=/d,volume-subpath=a/../../b",), "must be a relative path within the volume"),
        ((), ("src=a1,dst=/d,volume-subpath=/b",), "must be a relative path within the volume"),
        ((), ("type=bind,src=/h,dst=/d,bind-recursive=writable",), "requires 'readonly' to be specified"),
        ((), ("type=bind,src=/h,dst=/d,ro,bind-recursive=readonly",), "requires 'bind-propagation=rprivate'"),
        (
            (),
            ("type=bind,src=/h,dst=/d,bind-recursive=never",),
            'must be "enabled", "disabled", "writable", or "readonly"',
        ),
        ((), ("type=npipe,dst=/d",), "mount type unknown"),
        ((), ("src=a1,dst=/d,volume-driver=nfs",), 'plugin "nfs" not found'),
    ],
)
def test_what_cannot_be_mounted_is_refused_in_dockers_words(
    volumes: tuple[str, ...], mounts: tuple[str, ...], text: str
) -> None:
    with pytest.raises(SpecError) as caught:
        requests(volumes, mounts, ())
    assert text in str(caught.value)


def test_a_users_mount_takes_the_place_of_the_images_volume() -> None:
    found = requests(("data:/d", "/e"), (), ("/d/", "/e", "/f"))
    assert [(each.destination, each.source) for each in found] == [("/d", "data"), ("/e", ""), ("/f", "")]


def test_a_mount_in_memory_has_its_size_and_mode() -> None:
    (found,) = tmpfs_of_mounts(("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700,ro", "dst=/d"))
    assert (found.destination, found.options[-3:]) == ("/t", ("size=1m", "mode=700", "ro"))


def test_a_mount_is_told_as_docker_tells_it() -> None:
    bind = "type=bind,src=/h,dst=/d,ro,bind-propagation=rslave,bind-recursive=disabled"
    assert document(bind) == {
        "Type": "bind",
        "Source": "/h",
        "Target": "/d",
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rslave", "NonRecursive": True},
    }
    volume_text = "src=data,dst=/d,volume-nocopy,volume-label=a=1,volume-subpath=sub,volume-opt=size=64m"
    assert document(volume_text)["VolumeOptions"] == {
        "NoCopy": True,
        "Labels": {"a": "1"},
        "Subpath": "sub",
        "DriverConfig": {"Options": {"size": "64m"}},
    }
    assert document("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700") == {
        "Type": "tmpfs",
        "Target": "/t",
        "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o700},
    }


@pytest.mark.parametrize("wrong", ["tmpfs-size=much", "tmpfs-mode=rwx"])
def test_a_size_or_mode_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(SpecError, match=f"invalid value for {wrong.replace('=', ': ')}"):
        tmpfs_of_mounts((f"type=tmpfs,dst=/t,{wrong}",))


@given(st.text(max_size=40), st.text(max_size=60))
def test_any_text_is_a_request_or_a_users_mistake(flag: str, mount: str) -> None:
    for volumes, mounts in (((flag,), ()), ((), (mount,))):
        try:
            for each in requests(volumes, mounts, ()):
                assert each.destination.startswith("/")
        except SpecError:
            continue
