"""From what there is to what the files say: the steps, and what has to be done before each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from lab.compose import naming, plan, plan_down, plan_warnings
from lab.compose.existing import Existing, ExistingContainer, as_project
from lab.compose.model import (
    Build,
    Condition,
    Dependency,
    MountType,
    Network,
    Project,
    Service,
    ServiceNetwork,
    ServiceVolume,
    Volume,
)
from lab.compose.plan import Image, ImageWishes, Recreate, Wishes
from lab.compose.plan_down import DownWishes
from lab.compose.steps import Step
from lab.errors import SpecError, StateConflict

IMAGES = {"db": Image(id="sha256:d", volumes=("/cache",)), "web": Image(id="sha256:w")}
ON_DEFAULT = {"default": ServiceNetwork()}
DB = Service(
    name="db",
    image="db",
    networks=ON_DEFAULT,
    volumes=(ServiceVolume(type=MountType.VOLUME, source="data", target="/data"),),
)
WEB = Service(name="web", image="web", networks=ON_DEFAULT, depends_on={"db": Dependency(condition=Condition.HEALTHY)})
PROJECT = Project(
    name="shop",
    working_directory="/shop",
    files=("/shop/compose.yaml",),
    services={"web": WEB, "db": DB},
    networks={"default": Network(key="default", name="shop_default")},
    volumes={"data": Volume(key="data", name="shop_data")},
)
BOTH = Wishes(services=("web", "db"))


def container(project: Project, name: str, number: int = 1, /, **other: object) -> ExistingContainer:
    """Return a container as `up` has made it."""
    service = project.services[name]
    made = ExistingContainer(
        id=f"id-{name}-{number}",
        name=naming.container_name(project, service, number),
        service=name,
        number=number,
        config_hash=naming.config_hash(project, service),
        image_id=IMAGES[name].id,
    )
    return replace(made, **other)  # type: ignore[arg-type] # the fields of the class


def made(project: Project = PROJECT, *containers: ExistingContainer) -> Existing:
    """Return a project that is as its files say, but for these containers."""
    return Existing(
        containers=containers or (container(project, "db"), container(project, "web")),
        networks={each.name: naming.network_labels(project, each) for each in project.networks.values()},
        volumes={each.name: naming.volume_labels(project, each) for each in project.volumes.values()},
    )


def with_service(project: Project, name: str, **changes: object) -> Project:
    changed = replace(project.services[name], **changes)  # type: ignore[arg-type] # the fields of the class
    return replace(project, services={**project.services, name: changed})


def texts(steps: Sequence[Step]) -> list[str]:
    return [str(step.action) for step in steps]


def converge(existing: Existing, wishes: Wishes = BOTH, project: Project = PROJECT) -> tuple[Step, ...]:
    return plan.converge(project, existing, IMAGES, wishes)


def is_before(steps: Sequence[Step], first: str, then: str) -> bool:
    """Return whether one step, by what it does, has to be done before another one."""
    by_key = {step.key: step for step in steps}
    (last,) = (step for step in steps if str(step.action) == then)
    todo, seen = list(last.after), set[str]()
    while todo:
        key = todo.pop()
        if key in by_key and key not in seen:
            seen.add(key)
            todo += by_key[key].after
    return any(str(by_key[key].action) == first for key in seen)


# -- up ----------------------------------------------------------------------------------------------------------------


def test_where_there_is_nothing_all_is_made_and_started_in_the_order_of_dependencies() -> None:
    steps = converge(Existing())
    assert sorted(texts(steps)) == [
        "create container shop-db-1",
        "create container shop-web-1",
        "create network shop_default",
        "create volume shop_data",
        "start container shop-db-1",
        "start container shop-web-1",
        "wait until shop-db-1 is healthy",
    ]
    assert is_before(steps, "create volume shop_data", "create container shop-db-1")
    assert is_before(steps, "create network shop_default", "create container shop-web-1")
    assert is_before(steps, "start container shop-db-1", "wait until shop-db-1 is healthy")
    assert is_before(steps, "wait until shop-db-1 is healthy", "start container shop-web-1")
    assert not is_before(steps, "create container shop-db-1", "create container shop-web-1")


def test_where_all_is_as_it_should_be_nothing_is_done() -> None:
    assert texts(converge(made())) == ["keep container shop-db-1", "keep container shop-web-1"]


def test_only_the_service_that_has_changed_is_made_anew() -> None:
    changed = with_service(PROJECT, "web", environment={"A": "1"})
    assert texts(converge(made(), project=changed)) == [
        "keep container shop-db-1",
        "wait until shop-db-1 is healthy",
        "recreate container shop-web-1",
        "start container shop-web-1",
    ]


@pytest.mark.parametrize(
    "change", [{"scale": 1}, {"depends_on": {}}, {"profiles": ("x",)}, {"build": Build(context="/")}, {"attach": False}]
)
def test_what_makes_no_container_different_makes_none_anew(change: dict[str, object]) -> None:
    assert "keep container shop-web-1" in texts(converge(made(), project=with_service(PROJECT, "web", **change)))


def test_a_new_image_makes_containers_anew_and_they_keep_their_anonymous_volumes() -> None:
    old = container(
        PROJECT,
        "db",
        image_id="sha256:old",
        volumes={"/data": "shop_data", "/cache": "abc"},
        anonymous=frozenset(("abc",)),
    )
    existing = made(PROJECT, old, container(PROJECT, "web"))
    assert "recreate container shop-db-1, with the volume at /cache" in texts(converge(existing))
    renewed = converge(existing, replace(BOTH, renews_volumes=True))
    assert is_before(renewed, "recreate container shop-db-1", "remove volume abc")


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (replace(BOTH, recreate=Recreate.ALWAYS), {"db", "web"}),
        (replace(BOTH, named=("web",), recreate=Recreate.ALWAYS), {"web"}),
        (
            replace(BOTH, named=("web",), recreate=Recreate.ALWAYS, recreate_dependencies=Recreate.ALWAYS),
            {"db", "web"},
        ),
        (BOTH, set()),
    ],
)
def test_force_recreate_is_about_the_services_that_are_named(wishes: Wishes, expected: set[str]) -> None:
    steps = texts(converge(made(), wishes))
    assert {name for name in ("db", "web") if f"recreate container shop-{name}-1" in steps} == expected


def test_no_recreate_leaves_what_has_changed() -> None:
    changed = with_service(PROJECT, "web", environment={"A": "1"})
    steps = converge(made(), replace(BOTH, recreate=Recreate.NEVER, recreate_dependencies=Recreate.NEVER), changed)
    assert texts(steps) == ["keep container shop-db-1", "keep container shop-web-1"]


def test_scaling_adds_the_next_numbers_and_takes_the_highest_away() -> None:
    more = texts(converge(made(), replace(BOTH, scale={"web": 3})))
    assert [each for each in more if each.startswith("create")] == [
        "create container shop-web-2",
        "create container shop-web-3",
    ]
    existing = made(PROJECT, container(PROJECT, "db"), *(container(PROJECT, "web", number) for number in (1, 2, 3)))
    less = texts(converge(existing, replace(BOTH, scale={"web": 1})))
    assert [each for each in less if each.startswith("remove")] == [
        "remove container shop-web-2",
        "remove container shop-web-3",
    ]


def test_a_service_with_a_container_name_of_its_own_cannot_be_scaled() -> None:
    named = with_service(PROJECT, "web", container_name="the-web")
    assert "create container the-web" in texts(converge(Existing(), project=named))
    with pytest.raises(SpecError, match="each container to have a unique name"):
        converge(Existing(), replace(BOTH, scale={"web": 2}), named)


def test_a_service_that_joins_another_ones_network_is_made_anew_with_it() -> None:
    joining = with_service(PROJECT, "web", network_mode="service:db", networks={}, depends_on={"db": Dependency()})
    existing = made(joining)
    changed = with_service(joining, "db", environment={"A": "1"})
    steps = converge(existing, project=changed)
    assert is_before(steps, "recreate container shop-db-1", "recreate container shop-web-1")


def test_a_service_restarts_with_a_dependency_where_it_wants_to() -> None:
    restarting = with_service(PROJECT, "web", depends_on={"db": Dependency(restart=True)})
    changed = with_service(restarting, "db", environment={"A": "1"})
    steps = converge(made(restarting), project=changed)
    assert is_before(steps, "stop container shop-web-1", "start container shop-web-1")
    assert is_before(steps, "start container shop-db-1", "start container shop-web-1")


def test_what_a_killed_command_has_left_is_put_right() -> None:
    temporary = naming.temporary_name("shop-web-1", "id-web-1")
    successor = container(
        PROJECT, "web", id="new", name=temporary, status="created", labels={naming.REPLACES: "id-web-1"}
    )
    both = made(PROJECT, container(PROJECT, "db"), container(PROJECT, "web"), successor)
    assert f"remove container {temporary}" in texts(converge(both))
    assert "keep container shop-web-1" in texts(converge(both))
    alone = made(PROJECT, container(PROJECT, "db"), successor)
    steps = converge(alone)
    assert is_before(steps, "rename container new to shop-web-1", "start container shop-web-1")


def test_without_a_start_containers_are_only_made() -> None:
    assert not [each for each in texts(converge(Existing(), replace(BOTH, starts=False))) if "start" in each]


def test_up_waits_for_all_if_it_is_asked_to() -> None:
    steps = converge(Existing(), replace(BOTH, awaits=True))
    assert is_before(steps, "start container shop-web-1", "wait until shop-web-1 is running or healthy")


def test_a_dependency_that_is_left_alone_is_not_waited_for() -> None:
    assert texts(converge(made(PROJECT, container(PROJECT, "db")), Wishes(services=("web",)))) == [
        "create container shop-web-1",
        "start container shop-web-1",
    ]


# -- what containers stand on ------------------------------------------------------------------------------------------


def test_what_is_external_has_to_be_there_and_is_not_made() -> None:
    external = replace(
        PROJECT,
        networks={"default": Network(key="default", name="outside", external=True)},
        volumes={"data": Volume(key="data", name="kept", external=True)},
    )
    there = Existing(networks={"outside": {}}, volumes={"kept": {}})
    assert not [each for each in texts(converge(there, project=external)) if "network" in each or "volume" in each]
    with pytest.raises(StateConflict, match="network outside declared as external, but could not be found"):
        converge(replace(there, networks={}), project=external)
    with pytest.raises(StateConflict, match='external volume "kept" not found'):
        converge(replace(there, volumes={}), project=external)


@pytest.mark.parametrize(
    "changed",
    [
        replace(PROJECT, networks={"default": Network(key="default", name="shop_default", internal=True)}),
        replace(PROJECT, volumes={"data": Volume(key="data", name="shop_data", driver_opts={"type": "tmpfs"})}),
    ],
)
def test_a_network_or_volume_with_other_settings_is_refused(changed: Project) -> None:
    with pytest.raises(StateConflict, match="needs to be recreated"):
        converge(made(), project=changed)


def test_what_has_the_name_but_is_not_the_projects_is_used_with_a_warning() -> None:
    foreign = Existing(networks={"shop_default": {naming.PROJECT: "other"}}, volumes={"shop_data": {}})
    assert not [each for each in texts(converge(foreign)) if "network" in each or "volume" in each]
    told = tuple(plan_warnings.warnings(PROJECT, foreign, ("web", "db"), removes_orphans=False))
    assert [text.split("\n")[0].split(".")[0] for text in told] == [
        'a network with name shop_default exists but was not created for project "shop"',
        'volume "shop_data" already exists but was not created by Docker Compose',
    ]


def test_orphans_are_told_of_or_removed() -> None:
    orphan = ExistingContainer(id="o", name="shop-old-1", service="old")
    existing = made(PROJECT, container(PROJECT, "db"), container(PROJECT, "web"), orphan)
    (told,) = plan_warnings.warnings(PROJECT, existing, ("web", "db"), removes_orphans=False)
    assert told.startswith("Found orphan containers ([shop-old-1]) for this project.")
    assert "remove container shop-old-1" in texts(converge(existing, replace(BOTH, removes_orphans=True)))


# -- images ------------------------------------------------------------------------------------------------------------

BUILT = Service(name="app", build=Build(context="/app"))
NAMED = replace(BUILT, image="example/app")
PULLED = Service(name="app", image="redis")


@pytest.mark.parametrize(
    ("service", "present", "wishes", "expected"),
    [
        (PULLED, False, ImageWishes(), "pull image redis of service app"),
        (PULLED, True, ImageWishes(), ""),
        (PULLED, True, ImageWishes(builds=True), ""),
        (PULLED, True, ImageWishes(pull="always"), "pull image redis of service app"),
        (PULLED, False, ImageWishes(pull="never"), ""),
        (replace(PULLED, pull_policy="always"), True, ImageWishes(), "pull image redis of service app"),
        (BUILT, False, ImageWishes(), "build image shop-app of service app"),
        (BUILT, True, ImageWishes(), ""),
        (BUILT, True, ImageWishes(builds=True), "build image shop-app of service app"),
        (BUILT, True, ImageWishes(pull="always"), ""),
        (NAMED, False, ImageWishes(), "build image example/app of service app"),
        (NAMED, False, ImageWishes(builds_none=True), "pull image example/app of service app"),
        (replace(NAMED, pull_policy="build"), True, ImageWishes(), "build image example/app of service app"),
    ],
)
def test_an_image_is_built_or_pulled_where_it_has_to_be(
    service: Service, present: bool, wishes: ImageWishes, expected: str
) -> None:
    project = replace(PROJECT, services={"app": service})
    there = [naming.image_name(project, service)] if present else []
    assert texts(plan.images(project, ["app"], there, wishes)) == [expected] * bool(expected)


def test_one_image_of_several_services_is_had_once_and_builds_come_one_after_the_other() -> None:
    services = {name: replace(NAMED, name=name) for name in ("a", "b")} | {"c": replace(BUILT, name="c")}
    steps = plan.images(replace(PROJECT, services=services), ["a", "b", "c"], [], ImageWishes())
    assert texts(steps) == ["build image example/app of service a", "build image shop-c of service c"]
    assert steps[1].after == (steps[0].key,)


# -- down --------------------------------------------------------------------------------------------------------------


def test_down_goes_the_other_way_and_leaves_what_has_a_name() -> None:
    steps = plan_down.down(PROJECT, made(), ("web", "db"), DownWishes())
    assert is_before(steps, "stop container shop-web-1", "stop container shop-db-1")
    assert is_before(steps, "remove container shop-db-1", "remove network shop_default")
    assert not [each for each in texts(steps) if "volume" in each or "image" in each]


def test_down_takes_along_what_it_is_asked_to() -> None:
    anonymous = container(PROJECT, "db", volumes={"/cache": "abc"}, anonymous=frozenset(("abc",)))
    orphan = ExistingContainer(id="o", name="shop-old-1", service="old")
    existing = made(PROJECT, anonymous, orphan)
    wishes = DownWishes(volumes=True, images="all", removes_orphans=True)
    found = texts(plan_down.down(PROJECT, existing, ("web", "db"), wishes))
    for each in ("volume shop_data", "volume abc", "image db", "image web", "container shop-old-1"):
        assert f"remove {each}" in found


def test_down_finds_anonymous_volumes_whose_containers_are_gone() -> None:
    left = replace(made(), volumes={"abc": {naming.PROJECT: "shop", "com.docker.volume.anonymous": ""}, "other": {}})
    found = texts(plan_down.down(PROJECT, left, ("web", "db"), DownWishes(volumes=True)))
    assert [each for each in found if "volume" in each] == ["remove volume abc"]


def test_down_of_some_services_leaves_the_network() -> None:
    found = texts(plan_down.down(PROJECT, made(), ("web",), DownWishes(volumes=True)))
    assert found == ["stop container shop-web-1", "remove container shop-web-1"]


def test_a_project_without_files_is_what_its_containers_tell() -> None:
    labels = naming.container_labels(PROJECT, WEB, 1, image_id="")
    found = as_project("shop", made(PROJECT, container(PROJECT, "web", labels=labels), container(PROJECT, "db")))
    assert found.services["web"].depends_on == {"db": Dependency(condition=Condition.HEALTHY)}
    steps = plan_down.down(found, made(), tuple(found.services), DownWishes())
    assert is_before(steps, "stop container shop-web-1", "stop container shop-db-1")
