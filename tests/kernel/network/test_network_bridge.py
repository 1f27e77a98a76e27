"""The bridge of a lab root on a real host: made once, seen by all, gone without a trace."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.container.network import apply, ipam, plan
from lab.container.network.model import Bridge
from lab.errors import StateConflict
from lab.linux import command
from lab.paths import Paths

pytestmark = [pytest.mark.root, pytest.mark.needs("nftables")]

FOREIGN = "not-ours-at-all"


@pytest.fixture
def foreign_table() -> Iterator[None]:
    """A table of somebody else's, with a chain and a rule."""
    chain = "type filter hook forward priority 0\nip saddr 192.0.2.1 counter"
    rules = f"table ip {FOREIGN} {{\nchain c {{\n{chain}\n}}\n}}\n"
    assert command.run(("nft", "-f", "-"), stdin=rules.encode()).exit_code == 0
    yield
    assert command.run(("nft", "delete", "table", "ip", FOREIGN)).exit_code == 0


def tables() -> str:
    return command.run(("nft", "list", "tables")).text


def rules_of(table: str) -> str:
    found = (command.run(("nft", "list", "table", family, table)) for family in ("ip", "inet"))
    return "".join(done.text for done in found if done.exit_code == 0)


def test_a_bridge_is_up_has_its_address_and_lets_targets_out(root: Paths, bridge: Bridge) -> None:
    link = Path("/sys/class/net", bridge.name)
    assert int((link / "flags").read_text(), 16) & 1
    assert (link / "bridge/stp_state").read_text() == "0\n"
    assert apply.look().addresses[bridge.name] == (f"{bridge.gateway}/{bridge.prefix_length}",)
    assert bridge.subnet in rules_of(bridge.name)
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
    assert bridge.name == plan.bridge_name(root.root)


def test_a_bridge_that_is_there_is_taken_as_it_is(root: Paths, bridge: Bridge) -> None:
    index = Path("/sys/class/net", bridge.name, "ifindex").read_text()
    assert apply.ensure_bridge(root) == bridge
    assert Path("/sys/class/net", bridge.name, "ifindex").read_text() == index


def test_a_bridge_that_lost_its_rules_and_address_gets_them_again(root: Paths, bridge: Bridge) -> None:
    assert command.run(("nft", "delete", "table", "inet", bridge.name)).exit_code == 0
    assert command.run(("ip", "link", "set", bridge.name, "down")).exit_code == 0
    assert command.run(("ip", "address", "flush", "dev", bridge.name)).exit_code == 0
    again = apply.ensure_bridge(root)
    assert apply.look().addresses[again.name] == (f"{again.gateway}/{again.prefix_length}",)
    assert "masquerade" in rules_of(again.name)


def test_only_our_own_table_is_made_changed_and_removed(foreign_table: None, fresh_paths: Paths) -> None:
    before, theirs = tables(), rules_of(FOREIGN)
    name = apply.ensure_bridge(fresh_paths).name
    assert set(tables().splitlines()) - set(before.splitlines()) == {f"table inet {name}"}
    assert rules_of(FOREIGN) == theirs
    apply.remove_bridge(fresh_paths)
    assert name not in tables()
    assert rules_of(FOREIGN) == theirs


def test_a_removed_bridge_leaves_no_link_no_table_and_no_file(fresh_paths: Paths) -> None:
    bridge = apply.ensure_bridge(fresh_paths)
    ipam.release(fresh_paths.networks, ipam.lease(fresh_paths.networks, bridge, "a"))
    apply.remove_bridge(fresh_paths)
    apply.remove_bridge(fresh_paths)
    assert not os.path.exists(f"/sys/class/net/{bridge.name}")
    assert bridge.name not in tables()
    assert os.listdir(fresh_paths.networks) == []


def test_a_bridge_in_use_is_not_removed_and_its_user_is_named(root: Paths, bridge: Bridge, attach) -> None:
    attach("the-user")
    with pytest.raises(StateConflict, match="the-user"):
        apply.remove_bridge(root)
    apply.remove_idle_bridge(root)
    assert os.path.exists(f"/sys/class/net/{bridge.name}")


def test_an_idle_bridge_is_one_on_which_nobody_has_an_address(root: Paths, bridge: Bridge) -> None:
    attachment = ipam.lease(root.networks, bridge, "a")  # its link is not there yet
    apply.remove_idle_bridge(root)
    assert os.path.exists(f"/sys/class/net/{bridge.name}")
    ipam.release(root.networks, attachment)
    apply.remove_idle_bridge(root)
    assert not os.path.exists(f"/sys/class/net/{bridge.name}")
    apply.remove_idle_bridge(root)


def test_programs_that_need_the_bridge_at_once_make_one(root: Paths, at_once) -> None:
    said = at_once("print(apply.ensure_bridge(paths))", [root] * 6)
    assert said == [str(apply.ensure_bridge(root))] * 6


def test_roots_that_come_up_at_once_never_share_a_subnet(at_once) -> None:
    with ExitStack() as undo:
        roots = [Paths.under(undo.enter_context(tempfile.TemporaryDirectory(prefix="lab-test-"))) for _ in range(5)]
        for paths in roots:
            undo.callback(apply.remove_bridge, paths)
        subnets = at_once("print(apply.ensure_bridge(paths).subnet)", roots)
        assert len(set(subnets)) == 5, subnets


COME_AND_GO = """
for _ in range(5):
    path = f"{paths.run}/netns/{os.getpid()}"
    namespace.create(path)
    attachment = apply.lease(paths, "owner")
    namespace.connect(path, attachment)
    ipam.release(paths.networks, attachment)
    namespace.remove(path)
    apply.remove_idle_bridge(paths)
print("done")
"""


def test_programs_that_come_and_go_at_once_never_lose_the_bridge(root: Paths, at_once) -> None:
    assert at_once(COME_AND_GO, [root] * 8) == ["done"] * 8
    assert not os.path.exists(f"/sys/class/net/{plan.bridge_name(root.root)}")


def test_a_lease_that_is_being_written_is_none_yet(root: Paths, bridge: Bridge) -> None:
    taken = ipam.lease(root.networks, bridge, "a")
    (directory,) = (entry for entry in os.listdir(root.networks) if entry.endswith(".leases"))
    Path(root.networks, directory, "last.new").write_text(taken.address)
    assert [known.owner for known in ipam.leased(root.networks, bridge.name)] == ["a"]
    ipam.release(root.networks, taken)


def test_a_bridge_keeps_its_hardware_address_whoever_comes_and_goes(bridge: Bridge, attach) -> None:
    address = Path("/sys/class/net", bridge.name, "address")
    before = address.read_text()
    for owner in ("a", "b", "c"):
        attach(owner)
        assert address.read_text() == before
