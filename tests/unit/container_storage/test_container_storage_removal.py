"""Which names and images may go, who keeps them, and what stays whole when something is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.image import busybox, names, removal
from lab.container.image.assemble import Assembly, Step, assemble
from lab.container.image.change import changed
from lab.container.image.filters import Listed, conditions, instant_ns, matches, parse_filters, until_ns
from lab.container.image.reference import Reference, parse_reference
from lab.container.image.removal import Removal, Standing
from lab.container.image.store import ImageStore, StoredImage
from lab.container.spec.image import Descriptor, ExecutionConfig, ImageConfig, Index, MediaType, RootFS
from lab.container.spec.runtime import Process, Root, Spec, Status
from lab.container.state import ContainerDirectory, ContainerState, ProcessIdentity
from lab.errors import ContainerError, DockerfileError, ImageNotFound, LabError, SpecError, StateConflict
from lab.units import NS_PER_S

ID = "sha256:" + "a" * 64
USER = "c" * 64
ONE, TWO, ELSEWHERE = (parse_reference(text) for text in ("it:1", "it:2", "a.b/it:1"))
BY_DIGEST = parse_reference("it@sha256:" + "b" * 64)


def planned(image: Standing, asked: str, *, force: bool = False) -> Removal:
    reference = names.parsed(asked)
    return removal.plan(image, asked, reference if reference in image.names else None, force=force)


def test_one_name_of_several_goes_and_the_image_stays() -> None:
    image = Standing(image_id=ID, names=(ONE, TWO), running=USER)
    assert planned(image, "it:1") == Removal(untag=(ONE,), delete=False)


def test_the_last_name_takes_the_image_and_names_with_a_digest_along() -> None:
    image = Standing(image_id=ID, names=(ONE, BY_DIGEST))
    assert planned(image, "it:1") == Removal(untag=(ONE, BY_DIGEST), delete=True)


def test_by_its_id_an_image_goes_with_all_names_of_one_repository() -> None:
    image = Standing(image_id=ID, names=(ONE, TWO))
    assert planned(image, "aaaa") == Removal(untag=(ONE, TWO), delete=True)


def test_by_its_id_an_image_with_names_in_several_repositories_goes_by_force_only() -> None:
    image = Standing(image_id=ID, names=(ONE, ELSEWHERE))
    with pytest.raises(
        StateConflict, match=r"unable to delete aaaa \(must be forced\) - image is referenced in multiple"
    ):
        planned(image, "aaaa")
    assert planned(image, "aaaa", force=True).delete


def test_the_name_that_a_container_was_made_from_goes_by_force_only() -> None:
    image = Standing(image_id=ID, names=(ONE,), stopped=USER)
    with pytest.raises(StateConflict) as caught:
        planned(image, "it:1")
    assert str(caught.value) == (
        'conflict: unable to remove repository reference "it:1" (must force) - '
        "container cccccccccccc is using its referenced image aaaaaaaaaaaa"
    )
    assert planned(image, "it:1", force=True) == Removal(untag=(ONE,), delete=True)


def test_an_image_of_a_running_container_stays_even_by_force() -> None:
    image = Standing(image_id=ID, names=(ONE,), running=USER)
    assert planned(image, "it:1", force=True) == Removal(untag=(ONE,), delete=False)
    with pytest.raises(StateConflict, match=r"\(cannot be forced\) - image is being used by running container cccc"):
        planned(image, "aaaa", force=True)


def test_an_image_that_is_mounted_without_a_container_stays_even_by_force() -> None:
    with pytest.raises(StateConflict, match=r"\(cannot be forced\) - its files are in use by process 7"):
        planned(Standing(image_id=ID, names=(ONE,), mounted="7"), "it:1", force=True)


REFERENCES = st.sampled_from([ONE, TWO, ELSEWHERE, BY_DIGEST])
MANIFESTS = st.sampled_from(
    [Descriptor(media_type=MediaType.MANIFEST, digest=f"sha256:{str(n) * 64}", size=1) for n in range(3)]
)


@given(st.lists(st.tuples(REFERENCES, MANIFESTS)), st.sets(REFERENCES))
def test_no_image_is_lost_when_names_move_or_go(
    given_names: list[tuple[Reference, Descriptor]], gone: set[Reference]
) -> None:
    index = Index()
    for reference, manifest in given_names:
        index = names.named(index, reference, manifest)
        assert [each.digest for each in index.manifests if names.reference_of(each) == reference] == [manifest.digest]
    index = names.untagged(index, gone)
    assert {entry.digest for entry in index.manifests} == {manifest.digest for _, manifest in given_names}
    assert not gone & {names.reference_of(entry) for entry in index.manifests}
    pairs = [(entry.digest, names.reference_of(entry)) for entry in index.manifests]
    assert len(pairs) == len(set(pairs))
    with_name = {digest for digest, reference in pairs if reference}
    assert all(digest not in with_name for digest, reference in pairs if reference is None)


# -- the store ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(*(str(tmp_path / name) for name in ("images", "layers", "containers")))


def add_image(store: ImageStore, name: str, content: bytes) -> StoredImage:
    plan = (busybox.TreeEntry(name="file", mode=0o644, content=content),)
    with store.content_shared():
        step = Step(layer=busybox.pack(store.blobs, plan, mtime_s=0), created_by="test", created_s=0)
        return assemble(store, Assembly(name=name, steps=(step,), cmd=("sh",), labels={"a": "b"}))


def add_container(tmp_path: Path, store: ImageStore, image: StoredImage) -> str:
    """Lay out a container as the engine does, and return its id."""
    layers = tuple(store.layers.path(chain) for chain in reversed(image.chain_ids))
    directory = ContainerDirectory(str(tmp_path / "containers"))
    state = ContainerState(
        id="c1",
        bundle=directory.bundle("c1"),
        status=Status.CREATED,
        owner=ProcessIdentity.of(os.getpid()),
        cgroup="lab/c1",
        layers=layers,
    )
    directory.add(state, Spec(process=Process(args=("sh",)), root=Root(path="rootfs")), {})
    return state.id


@pytest.mark.root
def test_what_a_container_stands_on_is_not_removed(tmp_path: Path, store: ImageStore) -> None:
    image = add_image(store, "it:1", b"1")
    (directory,) = store.layer_directories("it:1")
    add_container(tmp_path, store, image)
    for asked in ("it:1", image.config_digest):
        with pytest.raises(StateConflict, match="container c1"):
            store.remove(asked)
    assert store.prune(lambda _: True, with_names=True).deleted == ()
    assert store.remove("it:1", force=True).deleted == (image.config_digest,)
    assert os.path.exists(f"{directory}/file"), "its files stay while the container is there"
    store.container_is_gone()
    assert os.path.exists(f"{directory}/file"), "it was another one"
    ContainerDirectory(str(tmp_path / "containers")).remove("c1")
    store.container_is_gone()
    assert not os.path.exists(directory)
    assert store.layers.leftovers() == ()


def test_pruning_takes_what_has_no_name_and_with_all_what_no_container_uses(store: ImageStore) -> None:
    old = add_image(store, "it:1", b"1")
    new = add_image(store, "it:1", b"2")
    assert store.prune(lambda _: False) == store.prune(lambda _: False)
    assert store.prune(lambda _: True).deleted == (old.config_digest, *old.chain_ids)
    removed = store.prune(lambda _: True, with_names=True)
    assert removed.untagged == ("it:1",)
    assert removed.deleted == (new.config_digest, *new.chain_ids)
    assert removed.freed_bytes > 0
    assert store.blobs.digests() == ()


def test_one_damaged_image_hides_no_other_and_can_be_removed(store: ImageStore) -> None:
    whole, broken = add_image(store, "whole", b"1"), add_image(store, "broken", b"2")
    store = ImageStore(store.root)  # a new command, which has read nothing yet
    Path(store.blobs.path(broken.manifest_digest)).write_bytes(b"{}")
    assert [image.name for image in store.readable()] == ["whole:latest"]
    ((called, error),) = store.damaged()
    assert called == "broken:latest"
    assert "digest is" in str(error)
    assert store.remove("whole").deleted == (whole.config_digest, *whole.chain_ids)
    assert store.blobs.has(whole.config_digest), "what a damaged image needs cannot be told, so nothing goes"
    assert store.remove("broken").untagged == ("broken:latest",)
    assert store.blobs.digests() == ()


def test_an_id_that_begins_two_images_is_refused(store: ImageStore) -> None:
    ids: dict[str, str] = {}
    for number in range(40):
        image_id = add_image(store, f"it:{number}", str(number).encode()).config_digest
        first = image_id.removeprefix("sha256:")[0]
        if first in ids:
            break
        ids[first] = image_id
    with pytest.raises(ImageNotFound, match=f"more than one image begins with '{first}'"):
        store.resolve(first)


def test_a_name_wins_over_the_beginning_of_an_id(store: ImageStore) -> None:
    image = add_image(store, "it:1", b"1")
    beginning = image.config_digest.removeprefix("sha256:")[:8]
    other = add_image(store, beginning, b"2")
    assert store.resolve(beginning) == other


# -- filters and changes -----------------------------------------------------------------------------------------------


def listed(created: str = "", **labels: str) -> Listed:
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        rootfs=RootFS(diff_ids=()),
        created=created,
        config=ExecutionConfig(labels=labels),
    )
    return Listed(names=(ONE,), config=config)


def holds(image: Listed, *texts: str) -> bool:
    filters = parse_filters(texts, ("dangling", "label", "label!", "before", "since", "reference", "until"))
    return all(condition(image) for condition in conditions(filters, lambda _: 100 * NS_PER_S, 1000 * NS_PER_S))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dangling=true", False),
        ("dangling=0", True),
        ("label=a", True),
        ("label=a=1", True),
        ("label=a=2", False),
        ("label=b", False),
        ("label!=a", False),
        ("label!=b", True),
        ("reference=it", True),
        ("reference=i*:1", True),
        ("reference=*/it", False),
        ("before=x", True),
        ("since=x", False),
        ("until=5m", True),
        ("until=1h", False),
        ("until=51", True),
        ("until=49", False),
        ("until=1970-01-01T00:00:51Z", True),
    ],
)
def test_a_filter_asks_what_docker_asks(text: str, expected: bool) -> None:
    assert holds(listed("1970-01-01T00:00:50Z", a="1"), text) is expected


@pytest.mark.parametrize(
    ("text", "kind"),
    [("x", SpecError), ("nope=1", ContainerError), ("dangling=z", ContainerError), ("until=z", ContainerError)],
)
def test_a_filter_that_is_none_is_told(text: str, kind: type[LabError]) -> None:
    with pytest.raises(kind, match=text.partition("=")[0]):
        holds(listed(), text)


@given(st.text(alphabet="it:1*?[]a-\\/", max_size=8))
def test_any_pattern_matches_or_not_or_is_refused(pattern: str) -> None:
    try:
        found = matches(pattern, ONE)
    except ContainerError:
        return
    assert found in (True, False)


def test_instants_of_docker_are_read_with_their_nanoseconds() -> None:
    assert instant_ns("2026-11-24T07:17:57.922559359Z") is not None
    assert instant_ns("0001-01-01T00:00:00Z") is not None
    assert instant_ns("never") is None
    assert until_ns("1.5", 0) == 1_500_000_000


def test_changes_are_dockerfile_instructions() -> None:
    config = changed(ExecutionConfig(env=("A=1",)), ["ENV B=$A", 'CMD ["x", "y"]', "EXPOSE 80\nUSER me"])
    assert (config.env, config.cmd, config.exposed_ports, config.user) == (
        ("A=1", "B=1"),
        ("x", "y"),
        ("80/tcp",),
        "me",
    )


@pytest.mark.parametrize(
    ("text", "said"), [("RUN x", "run is not a valid change command"), ("FOO x", "unknown instruction")]
)
def test_what_changes_more_than_the_configuration_is_refused(text: str, said: str) -> None:
    with pytest.raises(DockerfileError, match=said):
        changed(ExecutionConfig(), [text])
