"""Suite files: what we ship is right, and every mistake is told with its line."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.bench import suite_file
from lab.bench.document import decode, encode
from lab.bench.model import Suite
from lab.bench.workloads.catalogue import WORKLOADS
from lab.errors import SpecError

ARMS = ("process", "container", "runc", "docker")
GOOD = """\
title = "T"
question = "Q?"
arms = ["process", "runc"]
baseline = "process"

[blocks]
warmup = 1
min = 5
max = 30
budget = "3m20s"
half_width = 0.05

[limits]
vcpus = 2
memory = "128MiB"

[[workload]]
use = "startup"
image = "busybox"

[[workload]]
use = "disk"
image = "debian"
memory = "1g"
parameters = { place = "layer", runtime_ms = 300 }
"""


def parse(text: str) -> Suite:
    return suite_file.parse(text.encode(), path="my.toml", known_arms=ARMS)


def test_a_suite_means_what_it_says() -> None:
    suite = parse(GOOD)
    assert (suite.name, suite.arms, suite.baseline) == ("my", ("process", "runc"), "process")
    assert suite.budget_ns == 200_000_000_000
    startup, disk = suite.workloads
    assert (startup.vcpus, startup.memory_bytes) == (2, 128 << 20)
    assert (disk.memory_bytes, disk.parameters["runtime_ms"]) == (1 << 30, 300)


def test_parameters_that_a_suite_does_not_name_have_their_defaults() -> None:
    assert parse(GOOD).workloads[1].parameters["block_size"] == "4k"


@pytest.mark.parametrize("name", suite_file.shipped())
def test_each_shipped_suite_is_right(name: str) -> None:
    from lab.target.registry import NAMES

    suite = suite_file.load(suite_file.find(name), NAMES)
    assert suite.question.endswith("?")
    assert any(WORKLOADS[use.workload].needs(use.parameters, 20_000).serves for use in suite.workloads)


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ("warmup = 1", "warmpu = 1", 7, "unknown key of [blocks] 'warmpu'; did you mean 'warmup'?"),
        ("title =", "titel =", 1, "unknown key 'titel'; did you mean 'title'?"),
        ('use = "disk"', 'use = "dsik"', 22, "unknown workload 'dsik'; did you mean 'disk'?"),
        ('"runc"', '"rucn"', 3, "unknown target 'rucn'; did you mean 'runc'?"),
        ('"runc"', '"process"', 3, "named twice"),
        ("runtime_ms", "runtme_ms", 25, "unknown parameter of 'disk' 'runtme_ms'; did you mean 'runtime_ms'?"),
        ("= 300", '= "300"', 25, "must be a whole number"),
        ('place = "layer"', 'place = "layr"', 25, "did you mean 'layer'?"),
        ('"3m20s"', '"soon"', 10, "not a duration"),
        ('"128MiB"', '"much"', 15, "not a size"),
        ("min = 5", "min = true", 8, "must be a whole number, not True"),
        ("min = 5", "min = 31", 8, "at most max"),
        ("half_width = 0.05", "half_width = 5", 11, "between 0 and 1"),
        ('baseline = "process"', 'baseline = "docker"', 4, "not among the arms"),
        ('memory = "1g"', 'arms = ["runc"]', 24, "the baseline 'process' must be among the arms"),
        ("vcpus = 2", "vcpus = 0", 14, "at least 1"),
        ("[limits]", "[limits", 13, "not TOML"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(before: str, after: str, line: int, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(GOOD.replace(before, after, 1))
    if before != "vcpus = 2":  # a limit is used, and so found wrong, by the first workload
        assert caught.value.line == line
    assert str(caught.value).startswith("my.toml:")
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_workload_without_an_image_is_told_with_the_line_of_its_table() -> None:
    with pytest.raises(SpecError, match=r"my.toml:21: 'image' is missing"):
        parse(GOOD.replace('image = "debian"\n', ""))


def test_a_suite_needs_a_workload() -> None:
    with pytest.raises(SpecError, match=r"write at least one \[\[workload\]\]"):
        parse('arms = ["process"]')


def test_bytes_that_are_not_text_are_a_sentence() -> None:
    with pytest.raises(SpecError, match="not UTF-8"):
        suite_file.parse(b"\xff", path="my.toml", known_arms=ARMS)


def assert_suite_or_sentence(text: str) -> None:
    with contextlib.suppress(SpecError):
        parse(text)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_no_text_at_all_gives_anything_but_a_suite_or_a_sentence(text: str) -> None:
    assert_suite_or_sentence(text)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 30))
def test_no_cut_out_of_a_good_suite_gives_anything_but_a_suite_or_a_sentence(begin: int, length: int) -> None:
    assert_suite_or_sentence(GOOD[:begin] + GOOD[begin + length :])


def test_an_unknown_suite_names_the_nearest_one() -> None:
    with pytest.raises(SpecError, match="unknown suite 'quik'; did you mean 'quick'"):
        suite_file.find("quik")


def test_a_file_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(SpecError, match="No such file"):
        suite_file.load("/nowhere/x.toml", ARMS)


def test_targets_are_chosen_in_the_order_asked_and_unknown_ones_refused() -> None:
    assert suite_file.select_arms(ARMS, ["runc", "process", "runc"], ARMS) == ("runc", "process")
    assert suite_file.select_arms(ARMS, [], ARMS) == ARMS
    with pytest.raises(SpecError, match="did you mean 'docker'"):
        suite_file.select_arms(ARMS, ["dcoker"], ARMS)


GUESTS = """\
arms = ["process", "shared"]

[[arm]]
name = "shared"
use = "vm-tcg"
options = { root = "virtiofs", balloon = true }

[[workload]]
use = "startup"
image = "busybox"
"""


def parse_guests(text: str) -> Suite:
    return suite_file.parse(text.encode(), path="my.toml", known_arms=(*ARMS, "vm-tcg"))


def test_an_arm_of_the_suites_own_is_a_target_with_options() -> None:
    suite = parse_guests(GUESTS)
    assert suite.arms == ("process", "shared")
    (definition,) = suite.definitions
    assert (definition.name, definition.use) == ("shared", "vm-tcg")
    assert definition.options == {"root": "virtiofs", "balloon": True}


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ('name = "shared"', 'name = "runc"', 4, "there is a target 'runc' already"),
        ('name = "shared"', 'name = "Shared"', 4, "a name is made of"),
        ('use = "vm-tcg"', 'use = "vm-tgc"', 5, "did you mean 'vm-tcg'?"),
        ('use = "vm-tcg"', 'use = "container"', 6, "unknown option of 'container' 'root'"),
        ('"virtiofs"', '"virtio-fs"', 6, "did you mean 'virtiofs'?"),
        ("true", '"yes"', 6, "must be true or false"),
        ('"virtiofs"', '"9p"', 6, 'the cloud kernel has no 9p; add kernel = "generic"'),
        ("balloon = true", 'without = "quite"', 6, "no guest is started with the kernel option 'quite'"),
        ('arms = ["process", "shared"]', 'arms = ["process", "share"]', 1, "did you mean 'shared'?"),
    ],
)
def test_a_mistake_in_an_arm_is_told_with_its_line(before: str, after: str, line: int, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_guests(GUESTS.replace(before, after, 1))
    assert words in str(caught.value)
    assert caught.value.line == line


def test_a_suite_with_arms_of_its_own_comes_back_from_the_record_as_it_was() -> None:
    suite = parse_guests(GUESTS)
    assert decode(Suite, encode(suite)) == suite
