"""What `system check` decides about what is there."""

from __future__ import annotations

from lab.container.checkup import Kind, View, plan

ALIVE = "a" * 64
GONE = "b" * 64


def kinds(view: View) -> list[Kind]:
    return [finding.kind for finding in plan(view)]


def test_where_all_is_well_nothing_is_found() -> None:
    view = View(ids=frozenset((ALIVE,)), names={"web": ALIVE}, cgroups={ALIVE: 3}, leases={"10.0.0.2": ALIVE})
    assert plan(view) == ()


def test_a_supervisor_is_missed_only_where_it_is_needed() -> None:
    assert kinds(View(ids=frozenset(), supervised=False)) == []
    assert kinds(View(ids=frozenset(), supervised=False, needs_supervisor=True)) == [Kind.SUPERVISOR]
    assert kinds(View(ids=frozenset(), supervised=True, needs_supervisor=True)) == []


def test_what_belongs_to_a_container_that_is_gone_is_given_back() -> None:
    view = View(
        ids=frozenset((ALIVE,)),
        names={"web": ALIVE, "old": GONE},
        cgroups={ALIVE: 0, GONE: 0},
        leases={"10.0.0.2": ALIVE, "10.0.0.3": GONE},
    )
    assert [(finding.kind, finding.subject) for finding in plan(view)] == [
        (Kind.NAME, "old"),
        (Kind.LEASE, "10.0.0.3"),
        (Kind.CGROUP, GONE),
    ]


def test_a_cgroup_in_which_something_lives_is_shown_and_left_alone() -> None:
    (finding,) = plan(View(ids=frozenset(), cgroups={GONE: 2}))
    assert "left alone" in finding.remedy


def test_the_supervisor_comes_first_since_it_notes_ends() -> None:
    view = View(
        ids=frozenset((ALIVE,)),
        supervised=False,
        needs_supervisor=True,
        unfinished=(".new-1-2-x",),
        ownerless=(GONE,),
        lost=(ALIVE,),
        unseen=(ALIVE,),
    )
    assert kinds(view) == [Kind.SUPERVISOR, Kind.UNFINISHED, Kind.OWNERLESS, Kind.LOST_END, Kind.UNSEEN_END]
