"""One program for docker-py, run on docker and on `lab serve`: what each answers, made comparable key by key."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker

Document = Any  # whatever JSON can hold
_IDS = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "LONG-ID"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "SHORT-ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"), "TIME"),
)
_NAMES = ("Destination", "Path", "Name", "Names", "RepoTags")
_API = "1.41"
_SUBNET = "10.219.77.0/24"
_SLEEPS = ["sh", "-c", "echo out; echo err >&2; exec sleep 1000"]
_CREATE = {
    "Image": "busybox", "Cmd": _SLEEPS, "Env": ["A=1", "B=two words"], "Labels": {"a": "b"}, "WorkingDir": "/tmp",
    "User": "7:8", "Hostname": "named", "Domainname": "example.org", "StopSignal": "SIGINT", "StopTimeout": 3,
    "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/anon": {}},
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1000000000, "Timeout": 1000000000, "Retries": 2},
    "HostConfig": {
        "NetworkMode": "none", "Memory": 64 << 20, "NanoCpus": 500_000_000, "PidsLimit": 50, "CapAdd": ["NET_ADMIN"],
        "CapDrop": ["MKNOD"], "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}, "Binds": ["data:/data"],
        "Tmpfs": {"/mem": "size=1m"}, "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}], "ReadonlyRootfs": True,
        "ExtraHosts": ["other:10.0.0.1"], "Dns": ["10.0.0.2"], "GroupAdd": ["9"], "OomScoreAdj": 5, "Init": True,
        "Sysctls": {"net.ipv4.ip_forward": "1"}, "ShmSize": 1 << 20, "LogConfig": {"Type": "json-file", "Config": {}},
        "Mounts": [{"Type": "tmpfs", "Target": "/mem2", "TmpfsOptions": {"SizeBytes": 1 << 20}}],
    },
}  # fmt: skip


def client_of(address: str) -> docker.APIClient:
    """Return docker-py's client for a socket, with the version of the API that both offer."""
    return docker.APIClient(base_url=address, version=_API, timeout=60)


def documents(client: docker.APIClient) -> dict[str, Document]:
    """Run the program, and return the documents of its answers by what they are; what it makes, it removes."""
    found: dict[str, Document] = {"version": client.version(), "info": client.info(), "ping": _headers(client)}
    try:
        found.update(_of_images(client))
        found.update(_of_containers(client))
        found.update(_of_networks(client))
        found["volume"] = client.inspect_volume("data")
        found["volumes"] = client.volumes()
        found["df"] = client.df()
    finally:
        _remove_all(client)
    return found


def _headers(client: docker.APIClient) -> dict[str, str]:
    answer = client.get(f"{client.base_url}/_ping")
    return {name: answer.headers.get(name, "") for name in ("Api-Version", "Ostype", "Content-Type", "Cache-Control")}


def _of_images(client: docker.APIClient) -> Iterator[tuple[str, Document]]:
    yield "image", client.inspect_image("busybox")
    yield "images", client.images()
    yield "history", client.history("busybox")
    client.tag("busybox", "other", "1")
    yield "image removal", client.remove_image("other:1")


def _of_containers(client: docker.APIClient) -> Iterator[tuple[str, Document]]:
    since = int(time.time())
    made = _post(client, "/containers/create?name=full", _CREATE)
    yield "creation", made
    yield "container created", client.inspect_container("full")
    client.start("full")
    _wait_until(lambda: client.inspect_container("full")["State"].get("Health", {}).get("Status") == "healthy")
    yield "container running", _without_health_log(client.inspect_container("full"))
    yield "containers", client.containers(size=True)
    yield "stats", client.stats("full", stream=False)
    yield "top", client.top("full")
    yield "top of a format", client.top("full", "-o pid,comm")
    execution = client.exec_create("full", ["sh", "-c", "exit 3"], environment=["C=3"], user="9")
    yield "exec created", client.exec_inspect(execution["Id"])
    client.exec_start(execution["Id"])
    yield "exec ended", client.exec_inspect(execution["Id"])
    yield "update", client.update_container("full", mem_limit=128 << 20, memswap_limit=256 << 20)
    yield "changes", client.diff("full")
    yield "wait", _stopped(client)
    yield "container ended", _without_health_log(client.inspect_container("full"))
    yield "events", _events(client, since)
    plain = client.create_container("busybox", ["sh", "-c", "echo x > /tmp/x"], name="plain", **_no_network(client))
    client.start(plain["Id"])
    client.wait("plain")
    yield "changes of files", sorted(client.diff("plain"), key=lambda each: str(each["Path"]))
    yield "commit", client.commit("plain", "committed", "1", message="m", author="a", conf={"Env": ["X=1"]})
    yield "committed image", client.inspect_image("committed:1")
    _, about = client.get_archive("plain", "/tmp/x")
    yield "file", about
    yield "container prune", client.prune_containers({"label": ["nosuch"]})


def _no_network(client: docker.APIClient) -> dict[str, Document]:
    return {"host_config": client.create_host_config(network_mode="none")}


def _without_health_log(document: Document) -> Document:
    document["State"].get("Health", {}).update(Log=document["State"]["Health"]["Log"][:1])
    return document


def _stopped(client: docker.APIClient) -> Document:
    client.stop("full")
    return client.wait("full")


def _events(client: docker.APIClient, since: int) -> list[Document]:
    told = client.events(since=since, until=time.time() + 0.1, filters={"container": ["full"]}, decode=True)
    left = ("exec_", "health_status")  # how often it was checked until now
    return [each for each in told if not each["Action"].startswith(left)]


def _of_networks(client: docker.APIClient) -> Iterator[tuple[str, Document]]:
    pool = docker.types.IPAMPool(subnet=_SUBNET)
    yield (
        "network creation",
        client.create_network("net", ipam=docker.types.IPAMConfig(pool_configs=[pool]), labels={"n": "1"}),
    )
    endpoint = client.create_endpoint_config(aliases=["alias"], ipv4_address="10.219.77.9")
    made = client.create_container(
        "busybox",
        ["sleep", "1000"],
        name="connected",
        networking_config=client.create_networking_config({"net": endpoint}),
        host_config=client.create_host_config(network_mode="net"),
    )
    client.start(made["Id"])
    yield "container on a network", client.inspect_container("connected")
    yield "network", client.inspect_network("net")
    yield "networks", client.networks(names=["net"])


def _remove_all(client: docker.APIClient) -> None:
    for container in client.containers(all=True):
        client.remove_container(container["Id"], force=True, v=True)
    client.prune_networks()
    client.prune_volumes()
    for image in client.images("committed"):
        client.remove_image(image["Id"], force=True)


def _post(client: docker.APIClient, path: str, body: Document) -> Document:
    answer = client.post(f"{client.base_url}/v{_API}{path}", json=body)
    answer.raise_for_status()
    return answer.json()


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)  # what is waited for is another process's doing


def flattened(name: str, document: Document) -> dict[str, Document]:
    """Return the values of a document by their paths, with the ids and times in them made the same.

    Whether "nothing" is null, an empty list or an empty object is what the client has sent; lists of things with names
    are sorted by them.
    """
    found: dict[str, Document] = {}
    if isinstance(document, dict) and document:
        for key, each in document.items():
            found.update(flattened(f"{name}.{same(key)}", each))
    elif isinstance(document, list) and document:
        for index, each in enumerate(sorted(document, key=_name)):
            found.update(flattened(f"{name}.{index}", each))
    else:
        found[name] = same(document) if isinstance(document, str) else None if document in ([], {}) else document
    return found


def _name(document: Document) -> str:
    if not isinstance(document, dict):
        return ""
    return same(str(next((document[key] for key in _NAMES if key in document), "")))


def same(text: str) -> str:
    """Return a text with the ids and times in it made the same."""
    for pattern, name in _IDS:
        text = pattern.sub(name, text)
    return text
