"""Beside others: firewalls that drop, docker's rules, roots that are gone; on an island, a host's network of its own.

The island is a network namespace. /sys shows the real host's links there, as it does to whoever enters one by hand.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from processes import command_lines

from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.container.network import plan
from lab.container.storage import snapshots
from lab.linux import command
from lab.paths import Paths

from ..containers.conftest import Lab, remove_containers, wait_until
from .test_network_ports import SERVE

pytestmark = [pytest.mark.root, pytest.mark.needs("nftables")]

ISLAND, SHORE = f"labisle{os.getpid()}", f"labshore{os.getpid()}"
HERE, THERE = "198.51.100.1", "198.51.100.2"
INSIDE = ("nsenter", f"--net=/run/netns/{ISLAND}", "--")
SLEEP = ("busybox", "sleep", "1000")
FENCE = "table inet fence { chain forward { type filter hook forward priority 0; policy drop; }; }"


class IslandLab(Lab):
    """The command line on the island."""

    def argv(self, *words: str) -> tuple[str, ...]:
        return (*INSIDE, *super().argv(*words))

    def reaches(self, name: str) -> bool:
        """Return whether a container reaches the shore."""
        return self("exec", name, "ping", "-c", "1", "-W", "1", THERE).code == 0

    def end(self) -> None:
        """Remove what there is of this root but for its networks."""
        remove_containers(self)
        self.end_spawners()


def on_island(*argv: str) -> str:
    done = command.run((*INSIDE, *argv))
    assert done.exit_code == 0, (argv, done)
    return done.text


def links() -> set[str]:
    return {line.split(": ")[1].split("@")[0] for line in on_island("ip", "-o", "link").splitlines()}


def name_servers(root: str) -> list[int]:
    return [pid for pid, line in command_lines() if line.startswith(b"dnsmasq\0") and root.encode() in line]


@pytest.fixture
def island() -> Iterator[None]:
    """A host's network with one neighbour, and nothing else on it; what is on it goes with it."""
    with ExitStack() as undo:
        for name in (ISLAND, SHORE):
            assert command.run(("ip", "netns", "add", name)).exit_code == 0
            undo.callback(command.run, ("ip", "netns", "del", name))
        for words in (
            ("-n", ISLAND, "link", "add", "out", "type", "veth", "peer", "name", "eth0", "netns", SHORE),
            ("-n", ISLAND, "link", "set", "lo", "up"),
            ("-n", ISLAND, "link", "set", "out", "up"),
            ("-n", ISLAND, "address", "add", f"{HERE}/24", "dev", "out"),
            ("-n", SHORE, "link", "set", "eth0", "up"),
            ("-n", SHORE, "address", "add", f"{THERE}/24", "dev", "eth0"),
        ):
            assert command.run(("ip", *words)).exit_code == 0, words
        yield


def new_root(undo: ExitStack) -> IslandLab:
    paths = Paths.under(tempfile.mkdtemp(prefix="lab-test-"))
    undo.callback(shutil.rmtree, paths.root, ignore_errors=True)
    bootstrap(ImageStore.open(paths), BaseImage.BUSYBOX, progress=lambda _: None)
    lab = IslandLab(paths)
    undo.callback(lab.end)
    undo.callback(lambda: [os.kill(pid, signal.SIGKILL) for pid in name_servers(paths.root)])
    return lab


@pytest.fixture
def isle(island: None) -> Iterator[IslandLab]:
    """Return the command line on the island, with a busybox image."""
    with ExitStack() as undo:
        yield new_root(undo)


@pytest.mark.timeout(60)
def test_ports_and_networks_work_where_sysfs_shows_another_hosts_links(isle: IslandLab) -> None:
    isle.ok("network", "create", "shop")
    isle.ok("run", "-d", "--name", "web", "--network", "bridge", "-p", "8080:80", *SERVE)
    isle.ok("port", "add", "web", "8081:80")
    for port in (8080, 8081):
        ask = (*INSIDE, "busybox", "wget", "-q", "-O", "-", f"http://{HERE}:{port}/")
        wait_until(lambda ask=ask: command.run(ask).text == "hello")  # type: ignore[misc] # bound now
    isle.ok("network", "connect", "shop", "web")
    isle.ok("run", "-d", "--name", "other", "--network", "shop", *SLEEP)
    assert isle("exec", "other", "ping", "-c", "1", "-W", "2", "web").code == 0
    isle.ok("rm", "-f", "web", "other")
    isle.ok("network", "rm", "shop")
    assert "nothing was left behind" in isle.ok("system", "check")


def test_a_firewall_that_drops_is_left_alone_and_told_of_with_what_mends_it(isle: IslandLab) -> None:
    on_island("nft", FENCE)
    before = on_island("nft", "list", "table", "inet", "fence")
    made = isle("network", "create", "shop")
    assert "chain forward of table inet fence" in made.err
    isle.ok("run", "-d", "--name", "one", "--network", "shop", *SLEEP)
    assert not isle.reaches("one")
    assert on_island("nft", "list", "table", "inet", "fence") == before
    (found,) = (line for line in isle.ok("system", "check").splitlines() if line.startswith("firewall"))
    on_island("sh", "-c", found.partition("try: ")[2])
    assert isle.reaches("one")
    assert "firewall" not in isle.ok("system", "check")


def test_older_tables_of_iptables_that_drop_are_told_of_with_what_mends_it(isle: IslandLab) -> None:
    try:
        on_island("iptables-legacy", "-P", "FORWARD", "DROP")
    except (FileNotFoundError, AssertionError):
        pytest.skip("this host has no older tables of iptables")
    made = isle("network", "create", "shop")
    assert "chain FORWARD of table ip filter (iptables-legacy)" in made.err
    (found,) = (line for line in isle.ok("system", "check").splitlines() if line.startswith("firewall"))
    on_island("sh", "-c", found.partition("try: ")[2])
    assert "firewall" not in isle.ok("system", "check")
    isle.ok("network", "rm", "shop")


@pytest.fixture
def docker(island: None) -> Iterator[tuple[str, ...]]:
    """Return docker's command line for a daemon on the island, which was there first: so it drops what is not its own.

    It does so where it is the one that switches forwarding on.
    """
    on_island("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward")
    state = tempfile.mkdtemp(prefix="lab-test-docker-")
    argv = (
        *("dockerd", f"--host=unix://{state}/sock", f"--data-root={state}/data", f"--exec-root={state}/exec"),
        *(f"--pidfile={state}/pid", "--exec-opt=native.cgroupdriver=cgroupfs", "--bip=10.92.200.1/24"),
    )
    docker = ("docker", "-H", f"unix://{state}/sock")
    with open(f"{state}/log", "wb") as log:
        daemon = subprocess.Popen((*INSIDE, *argv), stdout=log, stderr=log)
    try:
        wait_until(lambda: command.run((*docker, "version")).exit_code == 0, within_s=60)
        assert "policy drop" in on_island("nft", "list", "chain", "ip", "filter", "FORWARD")
        yield docker
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(30)
        snapshots.unmount_below(state)
        shutil.rmtree(state, ignore_errors=True)


@pytest.mark.needs("docker")
@pytest.mark.timeout(120)
def test_neither_docker_cuts_our_containers_off_nor_we_its(docker: tuple[str, ...], isle: IslandLab) -> None:
    made = isle("network", "create", "shop")
    assert (made.code, made.err) == (0, "")
    isle.ok("run", "-d", "--name", "own", "--network", "bridge", *SLEEP)
    isle.ok("run", "-d", "--name", "made", "--network", "shop", *SLEEP)
    assert isle.reaches("own")
    assert isle.reaches("made")
    isle.ok("image", "save", "-o", f"{isle.paths.root}/busybox.tar", "busybox")
    assert command.run((*docker, "load", "-i", f"{isle.paths.root}/busybox.tar")).exit_code == 0
    theirs = command.run((*docker, "run", "--rm", "--cgroup-parent=lab", "busybox", "ping", "-c1", "-W2", THERE))
    assert theirs.exit_code == 0, theirs
    on_island("iptables", "-F", "DOCKER-USER")  # as when a firewall is loaded anew
    assert not isle.reaches("own")
    isle.ok("system", "check")
    assert isle.reaches("own")
    assert isle.reaches("made")
    isle.ok("rm", "-f", "made", "own")
    isle.ok("network", "rm", "shop")
    rules = on_island("iptables", "-S", "DOCKER-USER")
    assert rules.count("ACCEPT") == rules.count(plan.bridge_name(isle.paths.root)) == 2  # it has its own bridge still


def test_bridges_rules_and_name_servers_of_a_root_that_is_gone_go_and_nobody_elses(
    isle: IslandLab, island: None
) -> None:
    with ExitStack() as undo:
        gone = new_root(undo)
        gone.ok("network", "create", "old")
        gone.ok("run", "--rm", "--network", "bridge", "busybox", "true")
        gone.ok("run", "--rm", "--network", "old", "busybox", "true")
        theirs = {"lab-theirs", "br-alias"}
        for name in theirs:
            on_island("ip", "link", "add", name, "type", "bridge")
        on_island("ip", "link", "set", "br-alias", "alias", "lab root is what this is not")
        assert name_servers(gone.paths.root)
        table = plan.bridge_name(gone.paths.root)
        dead = {name for name in links() if name.startswith("lab-")} - theirs
        assert len(dead) == 2
        gone.end()
        shutil.rmtree(gone.paths.root)
        shown = isle.ok("system", "check", "-n")
        assert all(f"bridge {name}: its root {gone.paths.root} is gone" in shown for name in dead)
        assert dead <= links()
        isle.ok("network", "create", "new")
        assert not dead & links()
        assert theirs <= links()
        assert table not in on_island("nft", "list", "tables")
        wait_until(lambda: not name_servers(gone.paths.root))
        isle.ok("network", "rm", "new")


def test_what_a_root_that_is_gone_still_carries_stays_until_it_has_ended(isle: IslandLab) -> None:
    on_island("ip", "link", "add", "lab-dead", "type", "bridge")
    on_island("ip", "link", "set", "lab-dead", "alias", plan.note("/no/such/root"))
    on_island("ip", "link", "add", "inhabitant", "type", "veth", "peer", "name", "visitor")
    on_island("ip", "link", "set", "inhabitant", "master", "lab-dead")
    assert "lab-dead" not in isle.ok("system", "check")
    assert "lab-dead" in links()
    on_island("ip", "link", "del", "inhabitant")
    assert "lab-dead" in isle.ok("system", "check")
    assert "lab-dead" not in links()
    assert isle.ok("system", "check") == "nothing was left behind"
