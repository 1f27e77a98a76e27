"""Platforms: what texts mean by them, and which of several images is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from lab.container.spec.image import Descriptor, ImageConfig, Index, Platform
from lab.errors import RegistryError, SpecError

Candidate = TypeVar("Candidate")

_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm", "i386": "386"}
_ATTESTATION = "vnd.docker.reference.type"  # entries that say something of another entry, for no platform
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7"}
_UNKNOWN = Platform(architecture="unknown", os="unknown")


def parse_platform(text: str, *, architecture: str) -> Platform:
    """Return the platform that "OS/ARCHITECTURE/VARIANT", or a part of that, means on an ``architecture``.

    Raises:
        SpecError: it means none.
    """
    parts = text.lower().split("/")
    if not all(parts) or len(parts) > 3:
        raise SpecError(f"not a platform: {text!r}", hint="linux/amd64, linux/arm64, linux/arm/v7")
    if len(parts) == 1:
        parts = [parts[0], architecture] if parts[0] == "linux" else ["linux", parts[0]]
    return Platform(
        os=parts[0], architecture=_ALIASES.get(parts[1], parts[1]), variant=parts[2] if len(parts) == 3 else ""
    )


def host_platform(text: str = "") -> Platform:
    """Return the platform that is meant on this host, its own for "".

    Raises:
        SpecError: it is none.
    """
    from lab.container.image.packages import debian_architecture  # not on the way to a start

    return parse_platform(text or "linux", architecture=debian_architecture())


def select(index: Index, wanted: Platform, *, subject: str) -> Descriptor:
    """Return the entry for a platform, the one that ``choose`` takes.

    Raises:
        RegistryError: there is none.
    """
    images = [entry for entry in index.manifests if entry.platform and is_image(entry)]
    found = choose(images, lambda entry: entry.platform, wanted)
    if found is None:
        there = ", ".join(dict.fromkeys(str(entry.platform) for entry in images))
        raise RegistryError(
            f"no matching manifest for {wanted} in the manifest list of {subject}",
            hint=f"--platform: there is {there}" if there else "",
        )
    return found


def choose(
    candidates: Iterable[Candidate], platform_of: Callable[[Candidate], Platform | None], wanted: Platform
) -> Candidate | None:
    """Return what is for a platform: of the very variant, else of the architecture's usual one, else the first."""
    fitting = [each for each in candidates if matches(platform_of(each), wanted)]
    usual = wanted.variant or _DEFAULT_VARIANTS.get(wanted.architecture, "")
    exact = (each for each in fitting if (found := platform_of(each)) is not None and found.variant == usual)
    return next(exact, fitting[0] if fitting else None)


def is_image(entry: Descriptor) -> bool:
    """Return whether an index's entry is an image, and not what says something of one, such as its provenance."""
    return _ATTESTATION not in entry.annotations and entry.platform != _UNKNOWN


def platform_of(config: ImageConfig) -> Platform:
    """Return the platform that an image is for."""
    return Platform(os=config.os, architecture=config.architecture, variant=config.variant)


def matches(platform: Platform | None, wanted: Platform) -> bool:
    """Return whether what is for ``platform`` is what is wanted; a variant that is not told may be any."""
    return (
        platform is not None
        and (platform.os, platform.architecture) == (wanted.os, wanted.architecture)
        and (not wanted.variant or not platform.variant or platform.variant == wanted.variant)
    )
