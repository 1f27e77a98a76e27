"""Which services a command is about, and in which order they can start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.compose import graph
from lab.compose.model import Dependency, Project, Service
from lab.errors import SpecError

_NEEDS = {
    "web": ("app",),
    "app": ("db", "cache"),
    "db": (),
    "cache": (),
    "mail": (),
    "debug": ("db",),
}


def _project(needs: dict[str, tuple[str, ...]], *, required: bool = True, profiles: tuple[str, ...] = ()) -> Project:
    services = {
        name: Service(
            name=name,
            depends_on={other: Dependency(required=required) for other in others},
            profiles=("debug",) if name == "debug" else (),
        )
        for name, others in needs.items()
    }
    return Project(name="p", working_directory="/", services=services, profiles=profiles)


def test_a_named_service_brings_what_it_needs() -> None:
    project = _project(_NEEDS)
    assert graph.select(project, ["web"]) == ("web", "app", "db", "cache")
    assert graph.select(project, ["web"], with_dependencies=False) == ("web",)
    assert graph.select(project, ["mail", "db"]) == ("db", "mail")


def test_without_names_every_active_service_is_meant() -> None:
    assert graph.select(_project(_NEEDS)) == ("web", "app", "db", "cache", "mail")
    assert graph.select(_project(_NEEDS, profiles=("debug",))) == tuple(_NEEDS)


def test_a_service_that_is_not_there_is_refused() -> None:
    with pytest.raises(SpecError, match="no such service: wbe") as error:
        graph.select(_project(_NEEDS), ["wbe"])
    assert error.value.hint == "did you mean 'web'?"


def test_a_dependency_that_is_not_active_is_refused_unless_it_is_not_required() -> None:
    needs = {"web": ("debug",), "debug": ()}
    with pytest.raises(SpecError, match="service web depends on debug, which is in no active profile"):
        graph.select(_project(needs), ["web"])
    assert graph.select(_project(needs, required=False), ["web"]) == ("web",)
    assert graph.select(_project(needs, profiles=("debug",)), ["web"]) == ("web", "debug")


def test_services_of_one_level_can_start_side_by_side() -> None:
    project = _project(_NEEDS)
    assert graph.levels(project, _NEEDS) == (("db", "cache", "mail"), ("app", "debug"), ("web",))
    assert graph.levels(project, ("web", "db")) == (("web", "db"),)


@st.composite
def _acyclic(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    names = [f"s{number}" for number in range(draw(st.integers(1, 8)))]
    needs = {
        name: tuple(draw(st.lists(st.sampled_from(names[:index]), unique=True))) if index else ()
        for index, name in enumerate(names)
    }
    return {name: needs[name] for name in draw(st.permutations(names))}


@given(needs=_acyclic())
def test_every_service_is_in_one_level_after_all_that_it_needs(needs: dict[str, tuple[str, ...]]) -> None:
    levels = graph.levels(_project(needs), needs)
    rank = {name: index for index, level in enumerate(levels) for name in level}
    assert sorted(rank) == sorted(needs)
    assert all(rank[name] > rank[other] for name, others in needs.items() for other in others)
    assert all(any(rank[other] == rank[name] - 1 for other in needs[name]) for name in needs if rank[name])
