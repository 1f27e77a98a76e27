"""Files below /sys: choices, and what a kernel does not have."""

from __future__ import annotations

import pytest

from lab.linux import sysfs


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("always [madvise] never", "madvise"),
        ("always madvise [never]", "never"),
        ("[off]", "off"),
        ("tsc", "tsc"),
        ("", ""),
        (None, None),
    ],
)
def test_the_choice_is_the_word_in_brackets(text: str | None, chosen: str | None) -> None:
    assert sysfs.parse_chosen(text) == chosen


def test_what_the_kernel_does_not_have_cannot_be_told() -> None:
    assert sysfs.read_text("no/such/file") is None
    assert sysfs.read_text("kernel") is None  # a directory
    assert sysfs.chosen("no/such/file") is None


def test_what_is_there_is_read_without_its_newline() -> None:
    text = sysfs.read_text("kernel/mm/transparent_hugepage/enabled")
    if text is not None:
        assert "\n" not in text
        assert sysfs.transparent_hugepages() in ("always", "madvise", "never")
    assert set(sysfs.vulnerabilities().values()) != {None}
