"""Beside libvirt's own networks: a private libvirtd on an island makes one, with its bridge, rules and name server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.container.image.store import ImageStore
from lab.linux import command

from ..containers.conftest import wait_until
from .test_network_beside import INSIDE, SLEEP, THERE, IslandLab, island, isle, on_island

__all__ = ["island", "isle"]
pytestmark = [pytest.mark.root, pytest.mark.needs("nftables")]

GUEST = f"labguest{os.getpid()}"
ITS_ADDRESS, ITS_GATEWAY = "10.93.77.2", "10.93.77.1"
NETWORK = f"""<network><name>lv</name><forward mode='nat'/><bridge name='virbrlab'/>
<ip address='{ITS_GATEWAY}' netmask='255.255.255.0'><dhcp><range start='10.93.77.10' end='10.93.77.20'/></dhcp></ip>
</network>"""
PRIVATE = """
mount -t tmpfs tmpfs "$STATE"
for each in /etc /var/lib /run; do
    mkdir -p "$STATE$each/upper" "$STATE$each/work"
    mount -t overlay -o "lowerdir=$each,upperdir=$STATE$each/upper,workdir=$STATE$each/work" overlay "$each" || exit
done
exec libvirtd -f "$DIRECTORY/conf" -p "$DIRECTORY/pid"
"""
"""Runs the daemon; what it keeps where the host's own would is in memory, and in its mount namespace alone."""
BY_LIBVIRT = """
import sys, libvirt
connection = libvirt.open(f"network:///system?socket={sys.argv[1]}/libvirt-sock")
if sys.argv[2] == "create":
    connection.networkCreateXML(sys.argv[3])
else:
    connection.networkLookupByName("lv").destroy()
"""


@pytest.fixture
def libvirt_network(island: None) -> Iterator[None]:
    """Have a network of libvirt's on the island, and a guest on it: a network namespace behind a link to its bridge."""
    if shutil.which("libvirtd") is None:
        pytest.skip("libvirtd is not installed: apt-get install libvirt-daemon")
    with tempfile.TemporaryDirectory(prefix="lab-test-") as directory:
        Path(directory, "conf").write_text(f'unix_sock_dir = "{directory}"\nauth_unix_rw = "none"\n')
        os.mkdir(f"{directory}/state")
        environ = {**os.environ, "STATE": f"{directory}/state", "DIRECTORY": directory}
        with open(f"{directory}/log", "wb") as log:
            daemon = subprocess.Popen(
                (*INSIDE, "unshare", "--mount", "sh", "-c", PRIVATE), env=environ, stdout=log, stderr=log
            )
        try:
            wait_until(lambda: os.path.exists(f"{directory}/libvirt-sock"))
            _by_libvirt(directory, "create", NETWORK)
            _connect_guest()
            yield
            _by_libvirt(directory, "destroy")
        finally:
            command.run(("ip", "netns", "del", GUEST))
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)


def _by_libvirt(directory: str, *words: str) -> None:
    """Ask the daemon from a process of its own: libvirt's client here would keep its connection open."""
    done = command.run((sys.executable, "-c", BY_LIBVIRT, directory, *words))
    assert done.exit_code == 0, (done, Path(directory, "log").read_text())


def _connect_guest() -> None:
    assert command.run(("ip", "netns", "add", GUEST)).exit_code == 0
    on_island("ip", "link", "add", "vnet0", "type", "veth", "peer", "name", "eth0", "netns", GUEST)
    on_island("ip", "link", "set", "vnet0", "master", "virbrlab", "up")
    for words in (
        ("address", "add", f"{ITS_ADDRESS}/24", "dev", "eth0"),
        ("link", "set", "eth0", "up"),
        ("route", "add", "default", "via", ITS_GATEWAY),
    ):
        assert command.run(("ip", "-n", GUEST, *words)).exit_code == 0, words


def _guest_reaches(lab: IslandLab, address: str) -> bool:
    busybox = os.path.join(ImageStore.open(lab.paths).layer_directories("busybox")[0], "bin/busybox")
    argv = ("ip", "netns", "exec", GUEST, busybox, "ping", "-c", "1", "-W", "1", address)
    return command.run(argv).exit_code == 0


def _rules() -> list[str]:
    """Return libvirt's own rules, without what they have counted."""
    return [line for line in on_island("iptables", "-S").splitlines() if "LIBVIRT" in line or "virbrlab" in line]


@pytest.mark.timeout(120)
def test_neither_libvirt_cuts_our_containers_off_nor_we_its_guests(libvirt_network: None, isle: IslandLab) -> None:
    wait_until(lambda: _guest_reaches(isle, THERE))
    before = _rules()
    assert any("virbrlab" in line for line in before)
    made = isle("network", "create", "shop")
    assert (made.code, made.err) == (0, "")
    isle.ok("run", "-d", "--name", "one", "--network", "shop", *SLEEP)
    isle.ok("run", "-d", "--name", "two", "--network", "shop", *SLEEP)
    assert isle.reaches("one")
    assert isle("exec", "one", "ping", "-c", "1", "-W", "2", "two").code == 0  # by name: both name servers have port 53
    assert _guest_reaches(isle, THERE)
    assert isle("exec", "one", "ping", "-c", "1", "-W", "1", ITS_ADDRESS).code != 0  # libvirt lets nobody in
    assert _rules() == before
    assert "firewall" not in isle.ok("system", "check")
    isle.ok("rm", "-f", "one", "two")
    isle.ok("network", "rm", "shop")
    assert _rules() == before
    assert _guest_reaches(isle, THERE)
