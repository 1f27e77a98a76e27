"""Domains of any hypervisor, by libvirt's test driver: it keeps them in memory, and runs nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.cli import main
from lab.errors import DomainError, NoSuchMachine, StateConflict, UnavailableError
from lab.paths import Paths
from lab.vm.domains import Domains, open_domains
from lab.vm.hypervisors import HYPERVISORS, HypervisorType, verdict

URI = "test:///default"
Lab = Callable[..., str]


@pytest.fixture
def domains(tmp_path: Path) -> Iterator[Domains]:
    """The test driver's one connection: it forgets when the last one of the process is closed."""
    found = open_domains(Paths.under(str(tmp_path)), URI)
    yield found
    found.close()


@pytest.fixture
def lab(tmp_path: Path, domains: Domains, capsys: pytest.CaptureFixture[str]) -> Lab:
    def run(*words: str, code: int = 0) -> str:
        assert main.main(["--root", str(tmp_path), "vm", *words]) == code, capsys.readouterr().err
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return run


def test_domains_are_listed_as_machines_are(lab: Lab) -> None:
    assert lab("ls", "--connect", URI, "-q") == "test\n"
    (row,) = [json.loads(line) for line in lab("ls", "--connect", URI, "--format", "json").splitlines()]
    assert (row["Names"], row["State"], row["ID"], row["CPUs"], row["Persistent"]) == (
        "test",
        "running",
        "1",
        "2",
        "true",
    )
    heading, line = lab("ls", "--connect", URI).splitlines()
    assert heading.split() == ["ID", "NAMES", "STATE", "CPUS", "MEMORY", "UUID"]
    assert line.split()[:3] == ["1", "test", "running"]


def test_a_domain_is_found_by_name_by_number_and_by_uuid(domains: Domains) -> None:
    found = domains.get("test")
    assert domains.get("1") == found
    assert domains.get(found.uuid) == found
    with pytest.raises(NoSuchMachine, match="has no domain nobody"):
        domains.get("nobody")


def test_a_domain_is_powered_off_and_started(lab: Lab) -> None:
    assert lab("destroy", "--connect", URI, "test") == "test\n"
    assert lab("ls", "--connect", URI, "-q") == ""
    assert lab("ls", "-a", "--connect", URI, "--format", "{{.Names}} {{.State}}") == "test shut off\n"
    assert lab("start", "--connect", URI, "test") == "test\n"
    assert lab("inspect", "--connect", URI, "-f", "{{.State}}", "test") == "running\n"
    assert lab("shutdown", "--connect", URI, "test") == "test\n"
    assert lab("inspect", "--connect", URI, "-f", "{{.State}}", "test") == "shut off\n"


def test_what_libvirt_refuses_is_said_in_its_words(lab: Lab, domains: Domains) -> None:
    assert "cannot start domain test" in lab("start", "--connect", URI, "test", code=1)
    with pytest.raises(DomainError, match="already"):
        domains.start("test")


def test_a_domain_is_saved_and_goes_on(lab: Lab, tmp_path: Path) -> None:
    file = str(tmp_path / "memory")
    assert lab("save", "--connect", URI, "test", file) == "test\n"
    assert lab("ls", "--connect", URI, "-q") == ""
    lab("restore", "--connect", URI, file)
    assert lab("ls", "--connect", URI, "-q") == "test\n"


def test_saving_needs_a_file_for_domains_and_none_for_machines(lab: Lab) -> None:
    assert "needs a FILE" in lab("save", "--connect", URI, "test", code=1)
    assert "no FILE" in lab("save", "test", "/tmp/file", code=1)


def test_a_domain_is_as_it_was_after_going_back_to_a_snapshot(lab: Lab) -> None:
    lab("snapshot", "create", "--connect", URI, "test", "before")
    lab("destroy", "--connect", URI, "test")
    assert lab("snapshot", "ls", "-q", "--connect", URI, "test") == "before\n"
    lab("snapshot", "revert", "--connect", URI, "test", "before")
    assert lab("inspect", "--connect", URI, "-f", "{{.State}}", "test") == "running\n"
    lab("snapshot", "rm", "--connect", URI, "test", "before")
    assert lab("snapshot", "ls", "-q", "--connect", URI, "test") == ""


def test_a_domain_that_runs_is_removed_by_force_only(domains: Domains) -> None:
    with pytest.raises(StateConflict, match="runs"):
        domains.remove("test")
    domains.make_snapshot("test", "kept")
    domains.remove("test", force=True)
    assert domains.all() == ()


def test_an_inspection_has_the_xml(lab: Lab) -> None:
    (document,) = json.loads(lab("inspect", "--connect", URI, "test"))
    assert document["XML"].startswith("<domain type='test'")


def test_a_hypervisor_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot open qemu:///system"):
        open_domains(Paths.under(str(tmp_path)), f"qemu:///system?socket={tmp_path}/none")


def test_every_hypervisor_has_a_type_and_its_reason() -> None:
    types = {each.name: each.type for each in HYPERVISORS}
    assert types["xen"] == types["esx"] == types["hyperv"] == HypervisorType.ONE
    assert types["qemu/tcg"] == types["vbox"] == HypervisorType.TWO
    assert types["lxc"] == types["test"] == HypervisorType.NEITHER
    assert all(len(each.reason) > 20 and "://" in each.uri for each in HYPERVISORS)


def test_the_test_driver_answers_when_it_is_tried(tmp_path: Path) -> None:
    found = verdict(Paths.under(str(tmp_path)), next(each for each in HYPERVISORS if each.name == "test"))
    assert found.usable
    assert "TEST" in found.reason
