"""The fairness card follows from facts alone."""

from __future__ import annotations

from lab.bench.fairness import card

BASE = {"isolation": "process", "accelerator": "none"}


def test_a_container_is_fair_to_a_process() -> None:
    answers = card({"isolation": "namespaces", "accelerator": "none"}, BASE)

    assert all(answer.startswith("yes") for answer in answers.values()), answers


def test_an_emulated_guest_differs_in_kernel_file_system_cache_and_acceleration() -> None:
    answers = card({"isolation": "vm", "accelerator": "tcg", "guest_kernel": "6.1.0"}, BASE)

    no = {question for question, answer in answers.items() if answer.startswith("no")}
    assert no == {"same kernel", "same file system", "same cache state", "same hardware acceleration"}
    assert "software emulation (TCG)" in answers["same hardware acceleration"]
    assert "6.1.0" in answers["same kernel"]


def test_an_arm_that_does_not_enforce_limits_says_so() -> None:
    answers = card({"isolation": "namespaces", "limits": "memory is not limited"}, BASE)

    assert answers["same limits"] == "no: memory is not limited"


def test_nested_kvm_is_not_the_processor_itself() -> None:
    facts = {"isolation": "vm", "accelerator": "kvm", "kvm_flavour": "intel", "nested": "yes"}

    assert card(facts, BASE)["same hardware acceleration"].startswith("no: nested")


def test_a_kernel_in_user_space_is_another_kernel() -> None:
    assert card({"isolation": "kernel in user space"}, BASE)["same kernel"].startswith("no")
