"""Where a base image's packages come from: the host's own Debian sources, else Debian's public mirror."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lab.errors import UnavailableError
from lab.linux import command

DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
FALLBACK_SUITE = "trixie"
_DEBIAN = "http://deb.debian.org/debian"
_SECURITY = "http://deb.debian.org/debian-security"
_INDEX_FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(CODENAME)"
_PASSED_ON = ("proxy", "cainfo", "verify-peer", "verify-host")  # how this host reaches its mirrors


@dataclass(frozen=True, slots=True, kw_only=True)
class AptSources:
    """A suite, the lines of sources.list by which to fetch it, and the apt options by which this host does.

    No lines means: what mmdebstrap knows of the suite. ``note`` tells what was decided, "" when nothing had to be.
    """

    suite: str
    lines: tuple[str, ...]
    options: tuple[str, ...] = ()
    note: str = ""

    def kept(self) -> str:
        """Return the sources.list that stays in the image: public mirrors, whichever were used."""
        return "\n".join(_public_lines(self.suite, signed=False) if self.is_debian else self.lines) + "\n"

    @property
    def is_debian(self) -> bool:
        """Whether the packages are Debian's own."""
        return any(DEBIAN_KEYRING in line for line in self.lines)


def find_sources() -> AptSources:
    """Return this host's sources for a base image.

    Raises:
        UnavailableError: this host has neither Debian's keys nor a suite of its own.
    """
    release = _os_release()
    options = passed_on_options(_apt(("apt-config", "dump")))
    if not os.path.exists(DEBIAN_KEYRING):
        return _own_suite(release, options)
    suite, note = choose_suite(release)
    lines = host_lines(_apt(("apt-get", "indextargets", "--format", _INDEX_FORMAT, "Created-By: Packages")), suite)
    return AptSources(suite=suite, lines=lines or _public_lines(suite, signed=True), options=options, note=note)


def choose_suite(release: Mapping[str, str]) -> tuple[str, str]:
    """Return the Debian suite for a host with this os-release, and what there is to say about it."""
    name = release.get("PRETTY_NAME", "this host")
    codename = release.get("VERSION_CODENAME", "")
    if release.get("ID") == "debian" and codename:
        return codename, ""
    return FALLBACK_SUITE, f"{name} is no Debian release: the image is Debian {FALLBACK_SUITE}"


def host_lines(index_targets: str, suite: str) -> tuple[str, ...]:
    """Return the sources.list lines of the host's mirrors for a Debian suite, its updates and security fixes.

    ``index_targets`` is what apt-get indextargets wrote: URI, release, component, origin and codename, by "|".
    """
    fields = [line.split("|") for line in index_targets.splitlines() if line.count("|") == 4]
    found = [
        f"deb [signed-by={DEBIAN_KEYRING}] {uri.rstrip('/')} {release} {component}"
        for uri, release, component, origin, codename in fields
        if origin == "Debian"
        and component == "main"
        and codename.removesuffix("-security").removesuffix("-updates") == suite
    ]
    has_suite = any(f" {suite} main" in line for line in found)
    return tuple(sorted(set(found))) if has_suite else ()


def passed_on_options(dump: str) -> tuple[str, ...]:
    """Return the apt options, as apt.conf writes them, that say how this host reaches its mirrors."""
    lines = (line.strip().rstrip(";") for line in dump.splitlines())
    return tuple(line for line in lines if line.startswith("Acquire::http") and _last_name(line) in _PASSED_ON)


def _last_name(option: str) -> str:
    return option.partition(" ")[0].rpartition("::")[2].lower()


def _own_suite(release: Mapping[str, str], options: Iterable[str]) -> AptSources:
    suite = release.get("VERSION_CODENAME", "")
    if release.get("ID") not in ("debian", "ubuntu") or not suite:
        raise UnavailableError(
            f"{release.get('PRETTY_NAME', 'this host')} has no Debian keys", hint="apt install debian-archive-keyring"
        )
    note = f"Debian's keys are not installed: the image is {release.get('PRETTY_NAME', suite)}"
    return AptSources(suite=suite, lines=(), options=tuple(options), note=note)


def _public_lines(suite: str, *, signed: bool) -> tuple[str, ...]:
    key = f"[signed-by={DEBIAN_KEYRING}] " if signed else ""
    return (
        f"deb {key}{_DEBIAN} {suite} main",
        f"deb {key}{_DEBIAN} {suite}-updates main",
        f"deb {key}{_SECURITY} {suite}-security main",
    )


def _os_release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _apt(argv: tuple[str, ...]) -> str:
    try:
        return command.run(argv).text
    except FileNotFoundError:
        return ""  # without apt there is nothing of the host's to use
