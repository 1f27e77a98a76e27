"""--cap-add, --cap-drop, --privileged, --security-opt: what a container may do.

Source: docs.docker.com/reference/cli/docker/container/run, "--cap-add", "--security-opt"; man capabilities(7).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from lab.container.defaults import CAPABILITIES
from lab.errors import SpecError
from lab.linux.capabilities import NAMES, mask, names

ALL = "ALL"
_TRUE = frozenset(("1", "t", "true"))
_FALSE = frozenset(("0", "f", "false"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Capabilities for ``ContainerConfig.capabilities``, and what to tell the user about those that cannot be."""

    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def capabilities(added: Iterable[str], dropped: Iterable[str], *, privileged: bool, bounding_set: int) -> Granted:
    """Return what a container may get: docker's defaults, changed as asked, within ``bounding_set``, a bit mask.

    Names are taken with and without CAP_, in any case, and ALL. What the host itself lacks is left out with a warning.

    Raises:
        SpecError: there is no such capability.
    """
    more = tuple(_normal(name, "invalid CapAdd") for name in added)
    less = frozenset(_normal(name, "invalid CapDrop") for name in dropped)
    wanted = NAMES if privileged else _changed(more, less)
    allowed = names(bounding_set & mask(wanted))
    missing = [name for name in wanted if name not in allowed and (privileged or name in more or ALL in more)]
    return Granted(names=allowed, warnings=_warnings(missing))


def _changed(added: tuple[str, ...], dropped: frozenset[str]) -> tuple[str, ...]:
    if ALL in added:
        return tuple(name for name in NAMES if name not in dropped)
    kept = () if ALL in dropped else tuple(name for name in CAPABILITIES if name not in dropped)
    return tuple(dict.fromkeys((*kept, *added)))


def _normal(name: str, subject: str) -> str:
    upper = name.upper()
    if upper == ALL:
        return upper
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in NAMES:
        raise SpecError(f'{subject}: unknown capability: "{full}"', hint="man capabilities lists them")
    return full


def _warnings(missing: list[str]) -> tuple[str, ...]:
    if not missing:
        return ()
    return (f"this host itself lacks {', '.join(missing)}: the container starts without",)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityOptions:
    """What --security-opt says; the fields are those of ``ContainerConfig``."""

    seccomp: str | None = None
    no_new_privileges: bool = False
    unmasked: bool = False


def security_options(values: Iterable[str], *, read: Callable[[str], str]) -> SecurityOptions:
    """Return what all --security-opt together say; ``read`` gives the text of a profile's file.

    apparmor and label are taken and change nothing, as docker does on a host that has neither.

    Raises:
        SpecError: an option that there is not, or a file that is not a profile.
    """
    found = SecurityOptions()
    for value in values:
        found = _with(found, value, read)
    return found


def _with(found: SecurityOptions, option: str, read: Callable[[str], str]) -> SecurityOptions:
    name, separator, value = _split(option)
    match name:
        case "no-new-privileges":
            return replace(found, no_new_privileges=_boolean(value, option) if separator else True)
        case "seccomp" if value:
            return replace(found, seccomp=_profile(value, read))
        case "systempaths" if value == "unconfined":
            return replace(found, unmasked=True)
        case "apparmor" | "label" if value:
            return found
        case "label" if option == "disable":
            return found
    raise _invalid(option)


def _invalid(option: str, hint: str = "") -> SpecError:
    subject = "invalid --security-opt 2" if "=" in option or ":" in option else "Invalid --security-opt"
    return SpecError(f'{subject}: "{option}"', hint=hint)


def _split(option: str) -> tuple[str, str, str]:
    # docker takes "name=value", and the older "name:value" as well
    return option.partition("=") if "=" in option else option.partition(":")


def _boolean(text: str, option: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise _invalid(option, hint="write no-new-privileges, or no-new-privileges=false")


def _profile(value: str, read: Callable[[str], str]) -> str | None:
    if value == "unconfined":
        return ""
    if value == "builtin":
        return None
    try:
        text = value if value.startswith("{") else read(value)  # clients of an API send the profile itself
    except OSError as error:
        raise SpecError(
            f"opening seccomp profile ({value}) failed: open {value}: {(error.strerror or '').lower()}"
        ) from error
    try:
        json.loads(text)
    except ValueError as error:
        raise SpecError(f"compacting json for seccomp profile ({value}) failed: {error}") from error
    return text
