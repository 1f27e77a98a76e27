"""docker-py, unmodified, on `lab serve`."""

from __future__ import annotations

import io
import socket
import tarfile
from collections.abc import Iterator

import docker
import pytest
from docker.errors import ContainerError, ImageNotFound, NotFound
from kernel.api.conftest import Server

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]


@pytest.fixture
def client(server: Server) -> Iterator[docker.DockerClient]:
    found = docker.DockerClient(base_url=f"unix://{server.socket}")
    yield found
    found.close()


def test_what_is_not_there_is_what_docker_py_calls_it(client: docker.DockerClient) -> None:
    with pytest.raises(NotFound, match="No such container: nosuch"):
        client.containers.get("nosuch")
    with pytest.raises(ImageNotFound, match="No such image"):
        client.images.get("nosuch")
    with pytest.raises(NotFound):
        client.networks.get("nosuch")
    with pytest.raises(NotFound):
        client.volumes.get("nosuch")


def test_a_command_gives_its_output_and_its_failure(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", ["echo", "hello"], remove=True, network_mode="none") == b"hello\n"
    with pytest.raises(ContainerError, match="bad") as failed:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True, network_mode="none")
    assert failed.value.exit_status == 3


def test_a_container_is_worked_with(client: docker.DockerClient) -> None:
    loop = ["sh", "-c", "while true; do echo tick; sleep 0.05; done"]
    found = client.containers.run("busybox", loop, detach=True, network_mode="none", name="py", labels={"a": "b"})
    assert client.containers.list(filters={"label": ["a=b"]}) == [found]
    assert found.exec_run(["sh", "-c", "echo o; echo e >&2; exit 4"], demux=True) == (4, (b"o\n", b"e\n"))
    assert b"tick" in next(iter(found.attach(stream=True, logs=True)))
    assert b"tick" in next(found.logs(stream=True, follow=True))
    usage = found.stats(stream=False)
    assert usage["cpu_stats"]["system_cpu_usage"] > usage["precpu_stats"]["system_cpu_usage"] > 0
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo("put")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    assert found.put_archive("/tmp", archive.getvalue())
    parts, about = found.get_archive("/tmp/put")
    assert (about["name"], about["size"]) == ("put", 3)
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as tar:
        assert tar.extractfile("put").read() == b"abc"
    assert {"Path": "/tmp/put", "Kind": 1} in found.diff()
    found.stop(timeout=0)
    assert found.wait()["StatusCode"] == 137
    found.remove(v=True)


def test_bytes_go_both_ways_and_each_side_ends_for_itself(client: docker.DockerClient) -> None:
    made = client.api.create_container(
        "busybox", ["sh", "-c", "cat; echo over"], stdin_open=True, host_config={"NetworkMode": "none"}
    )
    stream = client.api.attach_socket(made["Id"], params={"stdin": 1, "stdout": 1, "stream": 1})
    bare = stream._sock
    bare.sendall(b"early\n")  # before its start: it is kept
    client.api.start(made["Id"])
    assert bare.recv(64) == b"\x01\0\0\0\0\0\0\x06early\n"
    bare.shutdown(socket.SHUT_WR)
    assert bare.recv(64) == b"\x01\0\0\0\0\0\0\x05over\n"
    assert bare.recv(64) == b""
    assert client.api.wait(made["Id"])["StatusCode"] == 0
    stream.close()


def test_an_image_is_built_from_memory(client: docker.DockerClient) -> None:
    image, lines = client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN echo inside\n"), tag="py:1", rm=True)
    assert image.tags == ["py:1"]
    assert any(line.get("stream") == "inside\n" for line in lines)
    assert image.history()[0]["Tags"] == ["py:1"]
    client.images.remove("py:1")
