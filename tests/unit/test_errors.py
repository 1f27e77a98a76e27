"""Messages, hints and exit codes of the lab's exceptions."""

from __future__ import annotations

import pytest

from lab import errors


def test_a_wrong_file_is_named_with_its_line() -> None:
    error = errors.SpecError("unknown key 'blokcs'", path="suite.toml", line=7, hint="did you mean 'blocks'?")
    assert str(error) == "suite.toml:7: unknown key 'blokcs'"
    assert error.hint == "did you mean 'blocks'?"
    assert error.exit_code == 2


def test_a_wrong_file_without_a_line_is_still_named() -> None:
    assert str(errors.SpecError("empty", path="suite.toml")) == "suite.toml: empty"
    assert str(errors.SpecError("empty")) == "empty"


def test_a_kernel_error_says_operation_object_and_reason() -> None:
    assert str(errors.KernelError("mount", "/target", "busy")) == "mount /target: busy"


def test_a_target_error_says_backend_and_phase() -> None:
    error = errors.TargetTimeout("no ready byte", backend="vm-tcg", phase="start")
    assert str(error) == "vm-tcg: start: no ready byte"
    assert isinstance(error, errors.TargetError)


def test_a_wrong_digest_says_both() -> None:
    error = errors.DigestMismatch("layer", expected="sha256:a", actual="sha256:b")
    assert str(error) == "layer: digest is sha256:b, expected sha256:a"


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.LabError, 1),
        (errors.SpecError, 2),
        (errors.UnavailableError, 3),
        (errors.RegressionFound, 4),
        (errors.ContainerError, 1),
        (errors.DomainError, 1),
    ],
)
def test_exit_codes_are_as_documented(error: type[errors.LabError], exit_code: int) -> None:
    assert error.exit_code == exit_code
