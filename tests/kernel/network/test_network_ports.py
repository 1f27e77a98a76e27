"""Ports of the host that lead to containers: from everywhere where they should, from nowhere else, and gone in time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.linux import command, nftables

from ..containers.conftest import Lab, wait_until

KILLS = int(os.environ.get("LAB_TEST_KILLS", "8"))
"""How many starts are killed, each at another moment; 24 where time is not short."""

pytestmark = [pytest.mark.root, pytest.mark.needs("nftables")]

SERVE = ("busybox", "sh", "-c", "cd /tmp; echo hello > index.html; exec httpd -f -p 80")
ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 53))
while True:
    data, peer = server.recvfrom(100)
    server.sendto(data, peer)
"""
OUTSIDE, HOST = "198.51.100.2", "198.51.100.1"
SCRIPT_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()"


def web(lab: Lab, *flags: str) -> str:
    return lab.ok("run", "-d", "--network", "bridge", *flags, *SERVE)


def fetch(address: str, port: int, *, within_s: float = 5) -> str:
    """Return what a server there says; it may still be starting."""
    found = []

    def ask() -> bool:
        try:
            with socket.create_connection((address, port), timeout=2) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                found.append(b"".join(iter(lambda: connection.recv(4096), b"")).decode())
        except ConnectionRefusedError:
            return False
        return True

    wait_until(ask, within_s=within_s)
    return found[-1].rpartition("\r\n\r\n")[2].strip()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def neighbour() -> Iterator[str]:
    """A machine beside this one: a network namespace on a link of its own, whose router we are."""
    name = f"labtest{os.getpid()}"
    for words in (
        ("netns", "add", name),
        ("link", "add", "labtest-out", "type", "veth", "peer", "name", "eth0", "netns", name),
        ("address", "add", f"{HOST}/24", "dev", "labtest-out"),
        ("link", "set", "labtest-out", "up"),
        ("-n", name, "address", "add", f"{OUTSIDE}/24", "dev", "eth0"),
        ("-n", name, "link", "set", "eth0", "up"),
        ("-n", name, "route", "add", "default", "via", HOST),
    ):
        assert command.run(("ip", *words)).exit_code == 0, words
    yield name
    assert command.run(("ip", "netns", "del", name)).exit_code == 0
    wait_until(lambda: not os.path.exists("/sys/class/net/labtest-out"))


def reaches(namespace: str, address: str, port: int) -> bool:
    argv = ("ip", "netns", "exec", namespace, sys.executable, "-c", SCRIPT_CONNECT, address, str(port))
    return command.run(argv).exit_code == 0


def test_a_port_leads_to_its_container_from_the_hosts_loopback_its_addresses_and_its_neighbours(
    lab: Lab, neighbour: str
) -> None:
    port = free_port()
    web(lab, "-p", f"{port}:80", "--name", "web")
    assert fetch("127.0.0.1", port) == "hello"
    assert fetch(HOST, port) == "hello"
    assert reaches(neighbour, HOST, port)
    address = lab.ok("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web")
    assert fetch(address, 80) == "hello"


def test_a_port_of_the_loopback_is_reached_from_this_host_alone(lab: Lab, neighbour: str) -> None:
    port = free_port()
    web(lab, "-p", f"127.0.0.1:{port}:80", "--name", "web")
    assert fetch("127.0.0.1", port) == "hello"
    assert not reaches(neighbour, HOST, port)
    assert command.run(("ip", "-n", neighbour, "route", "add", "127.0.0.1", "via", HOST)).exit_code == 0
    assert command.run(("ip", "-n", neighbour, "link", "set", "lo", "down")).exit_code == 0
    assert not reaches(neighbour, "127.0.0.1", port)


def test_what_is_not_published_is_not_reached_by_a_neighbour_nor_is_the_hosts_loopback_by_a_container(
    lab: Lab, neighbour: str
) -> None:
    web(lab, "--name", "web")
    address = lab.ok("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web")
    assert fetch(address, 80) == "hello"
    assert not reaches(neighbour, address, 80)
    with socket.create_server(("127.0.0.1", 0)) as private:
        port = str(private.getsockname()[1])
        ask = f"ip route add 127.0.0.2/32 via $(ip route | awk '/default/ {{print $3}}'); nc -w 1 127.0.0.2 {port}"
        done = lab("run", "--rm", "--network", "bridge", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", ask)
        assert done.code != 0


def test_containers_reach_each_other_and_themselves_through_the_host(lab: Lab, neighbour: str) -> None:
    port = free_port()
    web(lab, "-p", f"{port}:80", "--name", "web")
    assert fetch("127.0.0.1", port) == "hello"
    ask = ("wget", "-q", "-O", "-", f"http://{HOST}:{port}/")
    assert lab.ok("exec", "web", *ask) == "hello"
    assert lab.ok("run", "--rm", "--network", "bridge", "busybox", *ask) == "hello"


def test_udp_ports_lead_to_containers_as_well(lab: Lab) -> None:
    port = free_port()
    lab.ok("run", "-d", "--name", "echo", "--network", "bridge", "-p", f"{port}:53/udp", "busybox", "sleep", "60")
    inside = ("nsenter", f"--net=/proc/{lab.get('echo').state.pid}/ns/net")
    server = subprocess.Popen((*inside, sys.executable, "-c", ECHO))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("127.0.0.1", port))
        asking.settimeout(0.2)

        def answered() -> bool:
            try:
                asking.send(b"ping")
                return asking.recv(10) == b"ping"
            except (TimeoutError, ConnectionRefusedError):
                return False

        wait_until(answered)
    server.kill()
    server.wait()


def test_ranges_random_ports_and_all_exposed_ports_are_published(lab: Lab) -> None:
    web(lab, "--name", "aa", "-p", "80", "-p", "127.0.0.1::81", "--expose", "90-91", "-P")
    lines = lab.ok("port", "aa").splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["80/tcp", "81/tcp", "90/tcp", "91/tcp"]
    assert "81/tcp -> 127.0.0.1:" in lines[1]
    number = int(lab.ok("port", "aa", "80").rpartition(":")[2])
    assert fetch("127.0.0.1", number) == "hello"
    first = free_port()
    web(lab, "--name", "bb", "-p", f"{first}-{first + 20}:80", "-p", "30180-30182:180-182")
    web(lab, "--name", "cc", "-p", f"{first}-{first + 20}:80")
    one, other = (int(lab.ok("port", name, "80").rpartition(":")[2]) for name in ("bb", "cc"))
    assert first <= one < other <= first + 20
    assert "0.0.0.0:30180-30182->180-182/tcp" in lab.ok("ps", "--filter", "name=bb", "--format", "{{.Ports}}")


def test_a_port_that_is_taken_is_refused_before_anything_is_made(lab: Lab) -> None:
    port = free_port()
    web(lab, "--name", "first", "-p", f"{port}:80")
    for clash in (f"{port}:80", f"127.0.0.1:{port}:80"):
        done = lab("run", "-d", "--name", "second", "--network", "bridge", "-p", clash, *SERVE)
        assert done.code == 125
        address = "127.0.0.1" if clash.startswith("127") else "0.0.0.0"
        assert f"Bind for {address}:{port} failed: port is already allocated" in done.err
        assert lab.ok("ps", "-a", "--filter", "name=second", "--format", "{{.State}}") == "created"
        lab.ok("rm", "second")
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        done = lab("run", "--rm", "--network", "bridge", "-p", f"{number}:80", *SERVE)
        assert done.code == 125
        assert f"listen tcp4 0.0.0.0:{number}: bind: address already in use" in done.err
    assert lab.ok("ps", "-aq", "--filter", "status=created") == ""


def test_the_host_cannot_take_a_port_that_a_container_has(lab: Lab) -> None:
    port = free_port()
    web(lab, "--name", "web", "-p", f"{port}:80")
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", port))
    lab.ok("stop", "-t", "0", "web")
    socket.create_server(("127.0.0.1", port)).close()


def rules(lab: Lab) -> str:
    from lab.container.network import plan

    name = plan.bridge_name(lab.paths.root)
    return nftables.listing(f"list table inet {name}").decode()


@pytest.mark.parametrize("end", [("stop", "-t", "0"), ("kill",), ("rm", "-f")])
def test_what_led_to_a_container_is_gone_when_it_ends(lab: Lab, end: tuple[str, ...]) -> None:
    port = free_port()
    web(lab, "--name", "web", "-p", f"{port}:80")
    assert f"{port}" in rules(lab)
    lab.ok(*end, "web")
    if end[0] == "kill":
        wait_until(lambda: f"{port}" not in rules(lab))
    assert f"{port}" not in rules(lab)


def test_a_restart_by_hand_or_by_policy_publishes_again_and_keeps_the_address(lab: Lab) -> None:
    port = free_port()
    web(lab, "--name", "web", "-p", f"{port}:80", "--restart", "always")
    assert fetch("127.0.0.1", port) == "hello"
    address = lab.get("web").state.attachment
    lab.ok("restart", "-t", "0", "web")
    assert fetch("127.0.0.1", port) == "hello"
    pid = lab.get("web").state.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: lab.get("web").state.pid not in (0, pid))
    assert fetch("127.0.0.1", port) == "hello"
    assert lab.get("web").state.attachment == address


def test_ports_stay_when_the_spawner_is_killed_and_go_with_the_container_all_the_same(lab: Lab) -> None:
    port = free_port()
    web(lab, "--name", "web", "-p", f"{port}:80")
    lab.end_spawners()
    assert fetch("127.0.0.1", port) == "hello"
    done = lab("run", "--rm", "--network", "bridge", "-p", f"{port}:80", *SERVE)
    assert done.code == 125
    assert "port is already allocated" in done.err
    lab.ok("rm", "-f", "web")
    assert f"{port}" not in rules(lab)


def test_the_successor_of_a_spawner_that_was_killed_holds_its_ports_again_until_they_are_given_up(lab: Lab) -> None:
    port, other, late = free_port(), free_port(), free_port()
    web(lab, "--name", "web", "-p", f"{port}:80", "-p", f"127.0.0.1:{other}:81/udp", "-p", f"{late}:82")
    lab.end_spawners()
    with socket.create_server(("127.0.0.1", late)):  # somebody is faster
        lab.ok("system", "check")
        for address in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(OSError, match="in use"):
                socket.create_server((address, port))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, pytest.raises(OSError, match="in use"):
            udp.bind(("127.0.0.1", other))
    assert fetch("127.0.0.1", port) == "hello"
    lab.ok("port", "rm", "web", f"{port}:80")
    socket.create_server(("127.0.0.1", port)).close()
    with pytest.raises(OSError, match="in use"):  # what is left was held anew
        socket.create_server(("127.0.0.1", late))
    lab.ok("rm", "-f", "web")
    socket.create_server(("127.0.0.1", late)).close()


def test_starts_that_are_killed_at_any_moment_leave_no_port_that_leads_nowhere(lab: Lab) -> None:
    port = free_port()
    for step in range(KILLS):
        argv = lab.argv("run", "-d", "--name", f"k{step}", "--network", "bridge", "-p", f"{port}:80", *SERVE)
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(0.1 + 0.288 / KILLS * step)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        lab("rm", "-f", f"k{step}")
    web(lab, "--name", "last", "-p", f"{port}:80")
    assert fetch("127.0.0.1", port) == "hello"


def test_many_that_want_one_port_at_once_get_it_once(lab: Lab) -> None:
    port = free_port()

    def start(number: int) -> int:
        return lab("run", "-d", "--name", f"m{number}", "--network", "bridge", "-p", f"{port}:80", *SERVE).code

    with ThreadPoolExecutor(4) as pool:
        codes = sorted(pool.map(start, range(6)))
    assert codes == [0, 125, 125, 125, 125, 125]
    assert fetch("127.0.0.1", port) == "hello"


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("99999:80", "invalid hostPort: 99999"),
        ("80:x", "invalid containerPort: x"),
        ("80:80/icmp", "invalid proto: icmp"),
        ("1-2:1-3", "invalid ranges specified for container and host Ports: 1-3 and 1-2"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("80:", "no port specified: 80:<empty>"),
    ],
)
def test_what_cannot_be_a_port_is_refused_in_dockers_words(lab: Lab, flag: str, words: str) -> None:
    done = lab("create", "--network", "bridge", "-p", flag, "busybox")
    assert done.code != 0
    assert words in done.err
