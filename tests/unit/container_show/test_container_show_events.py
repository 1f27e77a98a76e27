"""Events: written by one append, read back, filtered, and shown as docker shows them; on real files."""

from __future__ import annotations

import datetime
import json
import os
import re
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container import event_actors, event_stream, events
from lab.container.event_stream import Event, EventFile

DIE = Event(
    kind="container",
    action="die",
    actor_id="c0ffee" + "0" * 58,
    attributes={"image": "busybox:1", "name": "web", "exitCode": "3", "tier": "front"},
    time_ns=1_700_000_000_123_456_789,
)


def make_bundle(tmp_path: Path, **attributes: str) -> str:
    bundle = tmp_path / "containers" / "c0ffee"
    bundle.mkdir(parents=True, exist_ok=True)
    text = event_actors.actor(str(tmp_path / "run"), attributes, oom_counter=str(tmp_path / "counter"))
    (bundle / events.ACTOR_FILE).write_text(text)
    return str(bundle)


def read(tmp_path: Path) -> list[Event]:
    with EventFile(str(tmp_path / "run")) as file:
        return list(file.read())


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, name="web", label='with "quotes"\nand lines')
    before_ns = time.time_ns()
    events.note(bundle, "start")
    events.note(bundle, "kill", event_actors.members({"signal": "9"}))
    start, kill = read(tmp_path)
    assert (start.kind, start.action, start.actor_id) == ("container", "start", "c0ffee")
    assert start.attributes == {"name": "web", "label": 'with "quotes"\nand lines'}
    assert kill.attributes["signal"] == "9"
    assert before_ns <= start.time_ns <= kill.time_ns <= time.time_ns()


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_whatever_a_command_is_called_its_event_can_be_read(action: str) -> None:
    event = event_stream.parse(events.line("container", action, "c0ffee", "").encode())
    assert event is not None
    assert event.action == action


def test_an_end_for_lack_of_memory_is_told_before_the_end(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    (tmp_path / "counter").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    events.Actor(bundle).died(137)
    assert [(event.action, dict(event.attributes)) for event in read(tmp_path)] == [
        ("oom", {}),
        ("die", {"exitCode": "137"}),
    ]


def test_an_end_with_memory_left_is_only_an_end(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    (tmp_path / "counter").write_text("low 0\noom 0\noom_kill 0\n")
    events.Actor(bundle).died(0)
    assert [event.action for event in read(tmp_path)] == ["die"]


def test_a_container_that_has_been_removed_is_told_of_as_it_was(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, name="web")
    actor = events.Actor(bundle)
    actor.read()
    os.unlink(os.path.join(bundle, events.ACTOR_FILE))
    actor.note("destroy")
    assert [event.attributes["name"] for event in read(tmp_path)] == ["web"]


def test_a_container_of_which_nothing_is_told_has_no_events(tmp_path: Path) -> None:
    events.note(str(tmp_path), "start")
    assert read(tmp_path) == []


def test_an_event_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    (tmp_path / "run").write_text("no directory")
    events.note(bundle, "start")


def test_a_line_that_is_none_is_passed_over(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    events.note(bundle, "start")
    with (tmp_path / "run" / events.FILE).open("a") as file:
        file.write('{"Type": "container"\n[]\n')
    events.note(bundle, "die")
    assert [event.action for event in read(tmp_path)] == ["start", "die"]


def test_a_file_that_has_become_long_is_begun_anew_and_both_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path)
    with EventFile(str(tmp_path / "run")) as file:
        events.note(bundle, "1")
        assert [event.action for event in file.read()] == ["1"]
        monkeypatch.setattr(events, "_LENGTH_MAX", 10)
        events.note(bundle, "2")  # the last one in the old file
        events.note(bundle, "3")
        assert os.path.exists(tmp_path / "run" / (events.FILE + events.OLD))
        assert [event.action for event in file.read()] == ["2", "3"]


def test_following_gives_what_comes_until_its_time_is_over(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    events.note(bundle, "before")
    seen: list[str] = []
    began = threading.Event()

    def follow() -> None:
        with EventFile(str(tmp_path / "run"), only_new=True) as file:
            began.set()
            for event in file.follow(time.time_ns() + 30_000_000_000):
                seen.append(event.action)
                if event.action == "last":
                    return

    reader = threading.Thread(target=follow)
    reader.start()
    began.wait()
    events.note(bundle, "first")
    events.note(bundle, "last")
    reader.join()
    assert seen == ["first", "last"]


def test_following_into_the_past_ends_at_once(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    events.note(bundle, "start")
    now_ns = time.time_ns()
    with EventFile(str(tmp_path / "run")) as file:
        assert [event.action for event in file.follow(now_ns)] == ["start"]


@pytest.mark.parametrize(
    ("name", "value", "is_there"),
    [
        ("event", "die", True),
        ("event", "di", False),
        ("type", "container", True),
        ("type", "image", False),
        ("container", "web", True),
        ("container", "c0ff", True),
        ("container", "db", False),
        ("image", "busybox:1", True),
        ("image", "busybox", True),
        ("image", "alpine", False),
        ("label", "tier", True),
        ("label", "tier=front", True),
        ("label", "tier=back", False),
        ("scope", "local", True),
        ("scope", "swarm", False),
        ("network", "web", False),
    ],
)
def test_each_filter_asks_for_what_its_name_says(name: str, value: str, is_there: bool) -> None:
    assert all(condition(DIE) for condition in event_stream.conditions({name: [value]})) is is_there


def test_values_of_one_filter_are_alternatives() -> None:
    conditions = event_stream.conditions({"event": ["start", "die"], "type": ["container"]})
    assert all(condition(DIE) for condition in conditions)


def test_a_kind_of_events_is_asked_for_by_its_beginning() -> None:
    executed = Event(kind="container", action="exec_create: ls", actor_id="c", attributes={}, time_ns=0)
    assert all(condition(executed) for condition in event_stream.conditions({"event": ["exec_create"]}))


def test_an_event_is_shown_as_docker_shows_it() -> None:
    instant, _, rest = event_stream.shown(DIE).partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:20\.123456789(Z|[+-]\d\d:\d\d)", instant)
    assert datetime.datetime.fromisoformat(instant).timestamp() == pytest.approx(DIE.time_ns / 1e9)
    assert rest == f"container die {DIE.actor_id} (exitCode=3, image=busybox:1, name=web, tier=front)"


def test_the_document_has_dockers_fields() -> None:
    assert json.loads(json.dumps(DIE.document())) == {
        "status": "die",
        "id": DIE.actor_id,
        "from": "busybox:1",
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": DIE.actor_id, "Attributes": dict(DIE.attributes)},
        "scope": "local",
        "time": 1_700_000_000,
        "timeNano": 1_700_000_000_123_456_789,
    }


def test_an_image_event_names_no_image_of_a_container(tmp_path: Path) -> None:
    event_actors.note_image(str(tmp_path / "run"), "tag", "sha256:0", {"name": "web:1"})
    (event,) = read(tmp_path)
    assert "from" not in event.document()
    assert all(condition(event) for condition in event_stream.conditions({"image": ["web"]}))


def test_a_removed_image_loses_its_names_before_it_goes(tmp_path: Path) -> None:
    event_actors.note_removal(str(tmp_path / "run"), "sha256:0", names=2, is_deleted=True)
    assert [event.action for event in read(tmp_path)] == ["untag", "untag", "delete"]
