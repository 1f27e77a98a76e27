"""What a guest's main command is, by the image and by what is asked for: the words of `lab run`."""

from __future__ import annotations

import pytest

from lab.container.options.run import RunOptions
from lab.container.spec import codec
from lab.container.spec.image import ExecutionConfig
from lab.errors import SpecError
from lab.machine.plan import merged, pairs, plan_forwards, plan_process, plan_vcpus
from lab.machine.record import Forward, MachineNetwork, MachineProcess, MachineRecord, MachineSpec

ID = "0123456789ab" + "c" * 52
PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n"
GROUP = "root:x:0:\nweb:x:34:\nlogs:x:40:web\n"


def planned(options: RunOptions, image: ExecutionConfig, **environ: str) -> MachineProcess:
    return plan_process(ID, options, image, passwd=PASSWD, group=GROUP, environ=environ)


def test_the_image_says_what_runs_unless_the_user_does() -> None:
    image = ExecutionConfig(
        entrypoint=("serve",), cmd=("-f",), env=("A=image", "B=image"), working_dir="/srv", user="web"
    )
    process = planned(RunOptions(image="x", env=("A=user", "C")), image, C="caller")
    assert process.args == ("serve", "-f")
    assert process.cwd == "/srv"
    assert (process.uid, process.gid, process.groups) == (33, 34, (34, 40))
    assert dict(pairs(process.env)) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": ID[:12],
        "HOME": "/srv",
        "A": "user",
        "B": "image",
        "C": "caller",
    }


def test_what_the_user_says_takes_the_place_of_the_images() -> None:
    image = ExecutionConfig(entrypoint=("serve",), cmd=("-f",), working_dir="/srv", user="web")
    options = RunOptions(
        image="x", entrypoint=("sh",), command=("-c", "id"), workdir="/a/../b", user="7", terminal=True
    )
    process = planned(options, image)
    assert (process.args, process.cwd, process.uid, process.gid) == (("sh", "-c", "id"), "/b", 7, 0)
    assert "TERM=xterm" in process.env
    assert "HOME=/" in process.env


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RunOptions(image="x", user="nobody"), "unable to find user nobody"),
        (RunOptions(image="x", entrypoint=()), "no command specified"),
    ],
)
def test_what_cannot_run_is_said_before_anything_is_made(options: RunOptions, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        planned(options, ExecutionConfig(cmd=("sh",)))


def test_the_later_of_two_environments_counts() -> None:
    assert merged(("A=1", "B=1"), ("B=2", "C=2")) == ("A=1", "B=2", "C=2")


def test_ports_of_the_loopback_can_be_published() -> None:
    options = RunOptions(image="x", publish=("8080:80", "127.0.0.1:8443:443", "9000"))
    assert plan_forwards(options, MachineNetwork.USER) == (
        Forward(host=8080, guest=80),
        Forward(host=8443, guest=443),
        Forward(host=0, guest=9000),
    )


@pytest.mark.parametrize("publish", ["53:53/udp", "0.0.0.0:80:80", "8000-8010:80"])
def test_ports_that_qemu_could_not_lead_into_the_guest_are_refused(publish: str) -> None:
    with pytest.raises(SpecError, match="cannot be published to a guest"):
        plan_forwards(RunOptions(image="x", publish=(publish,)), MachineNetwork.USER)


def test_ports_of_a_guest_that_the_host_reaches_need_no_publishing() -> None:
    with pytest.raises(SpecError, match="--network user only"):
        plan_forwards(RunOptions(image="x", publish=("80:80",)), MachineNetwork.TAP)


def test_a_guest_has_whole_processors() -> None:
    assert (plan_vcpus(None), plan_vcpus(2.0)) == (1, 2)
    for wrong in (0.5, 1.5, 0.0, -1.0):
        with pytest.raises(SpecError, match="whole processors"):
            plan_vcpus(wrong)


def test_a_record_comes_back_from_disk_as_it_was() -> None:
    record = MachineRecord(
        id=ID,
        created_ns=5,
        options=RunOptions(image="x", labels={"a": "b"}),
        digest="sha256:1",
        image_id="sha256:2",
        spec=MachineSpec(vcpus=2, network=MachineNetwork.NONE),
        process=MachineProcess(args=("a",), env=("A=b",), cwd="/", uid=1, gid=2, groups=(2, 3)),
        forwards=(Forward(host=1, guest=2),),
    )
    assert codec.decode(MachineRecord, codec.encode(record)) == record
