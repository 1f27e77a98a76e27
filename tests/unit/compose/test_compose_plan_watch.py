"""Which files `watch` sees, what has changed between two looks, and what it brings into a container."""

from __future__ import annotations

import tarfile
from pathlib import Path

from lab.compose.model import Build, Service, WatchAction, WatchRule
from lab.compose.watch import archive, compare, ignore_rules, snapshot


def rule(path: Path, **given: tuple[str, ...]) -> WatchRule:
    return WatchRule(action=WatchAction.SYNC, path=str(path), target="/app", **given)  # type: ignore[arg-type] # by name


def names(service: Service, watched: WatchRule) -> set[str]:
    return set(snapshot(watched, ignore_rules(service, watched)))


def test_files_are_seen_but_those_that_are_ignored(tmp_path: Path) -> None:
    for name in ("a.py", "b.tmp", "sub/c.py", ".git/x", "built/d", "a.py~"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / ".dockerignore").write_text("built\n")
    service = Service(name="web", build=Build(context=str(tmp_path)))
    assert names(service, rule(tmp_path, ignore=("*.tmp",))) == {".dockerignore", "a.py", "sub/c.py"}
    assert names(service, rule(tmp_path, include=("*.py",))) == {"a.py", "sub/c.py"}
    assert names(service, rule(tmp_path / "a.py")) == {""}


def test_what_is_new_other_or_gone_is_told_of_and_nothing_else(tmp_path: Path) -> None:
    watched, nothing = rule(tmp_path), ignore_rules(Service(name="web"), rule(tmp_path))
    for name in ("same", "other", "gone"):
        (tmp_path / name).write_text(name)
    before = snapshot(watched, nothing)
    assert compare("web", watched, before, snapshot(watched, nothing)) is None
    (tmp_path / "other").write_text("longer than before")
    (tmp_path / "gone").unlink()
    (tmp_path / "new").write_text("")
    change = compare("web", watched, before, snapshot(watched, nothing))
    assert change is not None
    assert (set(change.changed), change.gone) == ({"other", "new"}, ("gone",))


def test_files_come_as_an_archive_of_where_they_go_without_what_has_vanished(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a").write_text("text")
    with tarfile.open(fileobj=archive(rule(tmp_path), ["sub/a", "vanished"])) as tar:
        assert tar.getnames() == ["app/sub/a"]
