"""The same docker-py program on docker and on `lab serve`: each JSON document is compared key by key.

Every difference stands here with its reason; one that is no longer there has to go from here as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import docker
import pytest
from clients.api_program import Document, client_of, documents, flattened, same
from kernel.api.conftest import Server

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]

_ABSENT = "(absent)"

VARIES = (
    "*.Created", "*.Pid", "*.time", "*.timeNano", "info.NFd", "stats.cpu_stats.*", "stats.precpu_stats.*",
    "stats.memory_stats.*", "stats.pids_stats.*", "stats.blkio_stats.*.value", "top*.Processes.*",
    "df.Containers.*.Status",
)  # fmt: skip
"""Numbers and times of this very run: only their types are compared."""

DIFFERS = {
    "*.GraphDriver.Data.*": "where layers are; an image has no directories to write to",
    "*.Source": "volumes are elsewhere, and a list tells where anonymous ones are as well",
    "*.Mountpoint": "volumes are elsewhere",
    "*HostnamePath": "bundles are elsewhere, and there from the creation on",
    "*HostsPath": "bundles are elsewhere, and there from the creation on",
    "*ResolvConfPath": "bundles are elsewhere, and there from the creation on",
    "*LogPath": "bundles are elsewhere, and there from the creation on",
    "*.SandboxID": "no daemon gives numbers to network namespaces",
    "*.SandboxKey": "the namespace is found by its process, not by a mount",
    "container*.HostConfig.Runtime": "the runtime is the lab's own",
    "container*.HostConfig.KernelMemory*": "the kernel no longer has these limits",
    "container*.HostConfig.CgroupnsMode": "private on every host: docker 20.10 shares the host's where cgroups are v1",
    "container*.HostConfig.MaskedPaths.*": "as docker's later versions: interrupts and powercap are masked too",
    "container*.HostConfig.CapAdd.*": "told with CAP_, as docker's own client sends them",
    "container*.HostConfig.CapDrop.*": "told with CAP_, as docker's own client sends them",
    "container*.HostConfig.RestartPolicy.Name": "no policy is told as such",
    "container*.Config.AttachStd*": "who is attached is no part of a container: docker repeats what its creator said",
    "container*.NetworkSettings.Networks.none.*ID": "having no network is no endpoint",
    "df.Containers.*.Networks.none.NetworkID": "having no network is no endpoint",
    "df.Containers.*.Networks.net.Aliases*": "told in lists as well",
    "container ended.State.Health.Status": "what was found last: docker calls whatever has stopped unhealthy",
    "*image.Descriptor.*": "as docker's later versions: what the registry calls the image",
    "*image.Container": "an image does not remember the container that it was made of",
    "*image.ContainerConfig.*": "repeats Config, for clients that read it there",
    "committed image.Parent": "images stand on layers, not on images",
    "df.Images.*.ParentId": "images stand on layers, not on images",
    "committed image.DockerVersion": "it was not docker",
    "*Labels": "as docker's later versions: anonymous volumes are marked",
    "*Labels.com.docker.volume.anonymous": "as docker's later versions: anonymous volumes are marked",
    "committed image.Config.Env.*": "variables of the image stay where they are, new ones follow",
    "stats.blkio_stats.*": "the sum of all disks; docker tells each, and more kinds of operations",
    "stats.cpu_stats.cpu_usage.percpu_usage*": "the kernel no longer counts by processor with cgroups v2",
    "stats.precpu_stats.cpu_usage.percpu_usage*": "the kernel no longer counts by processor with cgroups v2",
    "stats.memory_stats.stats.*": "what clients compute with, alike for both versions of cgroups",
    "info.BridgeNf*": "a fact about docker's way to isolate networks",
    "info.*Commit.*": "there are no such programs",
    "info.DefaultRuntime": "the runtime is the lab's own",
    "info.Runtimes.*": "the runtime is the lab's own",
    "info.DockerRootDir": "it is elsewhere",
    "info.DriverStatus.*": "docker's own words for ext4, and what is always so here",
    "info.Swarm.RemoteManagers": "of swarms",
    "info.ID": "the host's own",
    "info.KernelMemory*": "the kernel no longer has these limits",
    "info.LiveRestoreEnabled": "there is no daemon whose restart could end containers",
    "info.NEventsListener": "no daemon knows who listens",
    "info.NGoroutines": "it is not Go",
    "info.Plugins.*": "logs are files, networks are bridges",
    "info.ServerVersion": "it is the lab's",
    "info.SystemStatus": "of a docker before swarms, which docker-compose's library still reads",
    "version.*": "it is not docker, not Go, and has no programs beside it",
}  # fmt: skip


@pytest.fixture(scope="module")
def clients(docker: str, served: Server) -> Iterator[tuple[docker.APIClient, docker.APIClient]]:
    pair = client_of(docker), client_of(f"unix://{served.socket}")
    yield pair
    for client in pair:
        client.close()


def test_every_difference_between_the_documents_has_its_reason(
    clients: tuple[docker.APIClient, docker.APIClient],
) -> None:
    theirs, ours = (_flat(documents(client)) for client in clients)
    untold, used = [], set()
    for path in sorted({*theirs, *ours}):
        expected, found = theirs.get(path, _ABSENT), ours.get(path, _ABSENT)
        if expected == found or (type(expected) is type(found) and _matching(path, VARIES)):
            continue
        reasons = _matching(path, DIFFERS)
        used.update(reasons)
        if not reasons:
            untold.append(f"{path}: docker {expected!r}, the lab {found!r}")
    assert not untold, "\n".join(untold)
    assert sorted(set(DIFFERS) - used) == []


def _flat(found: dict[str, Document]) -> dict[str, Document]:
    return {path: value for name, document in found.items() for path, value in flattened(name, document).items()}


def _matching(path: str, patterns: Iterable[str]) -> list[str]:
    return [pattern for pattern in patterns if fnmatchcase(path, pattern)]


@dataclass(frozen=True, slots=True)
class Wrong:
    """A request that cannot be, and why its answer is another one than docker's, if it is."""

    method: str
    path: str
    body: Document = None
    otherwise: str = ""


WRONG = (
    Wrong("GET", "/containers/nosuch/json"),
    Wrong("POST", "/containers/nosuch/start"),
    Wrong("POST", "/containers/nosuch/stop"),
    Wrong("POST", "/containers/nosuch/kill"),
    Wrong("POST", "/containers/nosuch/exec", body={"Cmd": ["true"]}),
    Wrong("POST", "/containers/there/exec", body={"Cmd": []}),
    Wrong("POST", "/containers/there/exec", body={"Cmd": ["true"]}),
    Wrong("POST", "/containers/there/kill"),
    Wrong("POST", "/containers/there/kill?signal=nosuch"),
    Wrong("POST", "/containers/there/pause"),
    Wrong("POST", "/containers/there/unpause", otherwise="it is in the way, and no fault of the server's"),
    Wrong("POST", "/containers/there/rename?name="),
    Wrong("POST", "/containers/there/rename?name=there", otherwise="the name is taken, be it by itself"),
    Wrong("POST", "/containers/there/rename?name=/", otherwise="an empty name is named"),
    Wrong("POST", "/containers/there/resize", otherwise="says what is missing"),
    Wrong("POST", "/containers/there/wait?condition=nosuch", otherwise="refused, as docker's later versions do"),
    Wrong("GET", "/containers/there/logs"),
    Wrong("GET", "/containers/there/top"),
    Wrong("GET", "/containers/there/archive", otherwise="without docker's missing space"),
    Wrong("GET", "/containers/there/archive?path=/nosuch"),
    Wrong("PUT", "/containers/there/archive?path=/nosuch"),
    Wrong("DELETE", "/containers/nosuch"),
    Wrong("POST", "/containers/create", otherwise="the client's fault, not the server's"),
    Wrong("POST", "/containers/create", body={}),
    Wrong("POST", "/containers/create", body={"Image": "nosuch"}),
    Wrong("POST", "/containers/create?name=there", body={"Image": "busybox"}),
    Wrong("POST", "/containers/create?name=-", body={"Image": "busybox"}),
    Wrong("POST", "/containers/create", body={"Image": "busybox", "WorkingDir": "rel"}),
    Wrong("POST", "/containers/create", body={"Image": "busybox", "HostConfig": {"Memory": 1}}),
    Wrong("POST", "/containers/create", body={"Image": "busybox", "HostConfig": {"RestartPolicy": {"Name": "nosuch"}}}),
    Wrong(
        "POST",
        "/containers/create",
        body={"Image": "busybox", "HostConfig": {"Binds": ["a:b:c:d"]}},
        otherwise="the client's fault, not the server's",
    ),
    Wrong("POST", "/containers/create", body={"Image": "busybox", "HostConfig": {"Links": ["nosuch:x"]}}),
    Wrong("POST", "/containers/create", body={"Image": "busybox", "HostConfig": {"CapAdd": ["NOSUCH"]}}),
    Wrong("GET", "/containers/json?filters=x", otherwise="the client's fault, not the server's"),
    Wrong("GET", "/containers/json?filters=%7B%22nosuch%22%3A%5B%22x%22%5D%7D"),
    Wrong("GET", "/exec/nosuch/json"),
    Wrong("POST", "/exec/nosuch/start", body={}),
    Wrong("GET", "/images/nosuch/json", otherwise="said once"),
    Wrong("GET", "/images/nosuch/history"),
    Wrong("DELETE", "/images/nosuch"),
    Wrong("POST", "/images/nosuch/tag?repo=x"),
    Wrong("POST", "/images/busybox/tag?repo=X", otherwise="names what must be in lower case; the client's fault"),
    Wrong("POST", "/images/nosuch/push", otherwise="credentials are not needed to see that there is no such image"),
    Wrong("POST", "/commit?container=nosuch"),
    Wrong("GET", "/networks/nosuch"),
    Wrong("DELETE", "/networks/nosuch"),
    Wrong("POST", "/networks/create", body={"Name": ""}, otherwise="the client's fault, not the server's"),
    Wrong(
        "POST",
        "/networks/nosuch/connect",
        body={"Container": "there"},
        otherwise="docker believes it until the container starts",
    ),
    Wrong("GET", "/volumes/nosuch"),
    Wrong("DELETE", "/volumes/nosuch"),
    Wrong("POST", "/volumes/create", body={"Name": "?"}),
    Wrong("GET", "/swarm"),
    Wrong("GET", "/nodes"),
    Wrong("GET", "/services"),
    Wrong("GET", "/tasks"),
    Wrong("GET", "/secrets"),
    Wrong("GET", "/configs"),
    Wrong("GET", "/nosuch"),
    Wrong("POST", "/session", otherwise="BuildKit's, which is not there"),
    Wrong("GET", "/containers/json?limit=x", otherwise="the client's fault, not the server's"),
    Wrong("GET", "/events?since=x", otherwise="the client's fault, not the server's"),
)


@pytest.fixture
def there(clients: tuple[docker.APIClient, docker.APIClient]) -> Iterator[None]:
    """Have a container that does not run on both."""
    for client in clients:
        client.create_container("busybox", ["true"], name="there", host_config={"NetworkMode": "none"})
    yield
    for client in clients:
        client.remove_container("there")


def test_wrong_requests_have_the_same_status_and_the_same_words(
    clients: tuple[docker.APIClient, docker.APIClient], there: None
) -> None:
    untold = []
    for wrong in WRONG:
        theirs, ours = (_refusal(client, wrong) for client in clients)
        if (theirs != ours) != bool(wrong.otherwise):
            untold.append(f"{wrong}\n    docker {theirs}\n    lab    {ours}")
    assert not untold, "\n".join(untold)


def _refusal(client: docker.APIClient, wrong: Wrong) -> tuple[int, str]:
    given = {} if wrong.body is None else {"json": wrong.body}
    answer = client.request(wrong.method, f"{client.base_url}/v1.41{wrong.path}", **given)
    try:
        return answer.status_code, same(str(answer.json().get("message", answer.text))).lower()
    except ValueError:
        return answer.status_code, same(answer.text)
