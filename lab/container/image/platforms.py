"""Which image of an index is meant; pure."""

from __future__ import annotations

from lab.container.spec.image import Descriptor, ImageConfig, Index, Platform
from lab.errors import RegistryError, SpecError

_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm", "i386": "386"}
_ATTESTATION = "vnd.docker.reference.type"  # entries that say something of another entry, for no platform
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7"}


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


def select(index: Index, wanted: Platform, *, subject: str) -> Descriptor:
    """Return the entry for a platform: of the very variant, else of the architecture's usual one, else the first.

    Raises:
        RegistryError: there is none.
    """
    images = [entry for entry in index.manifests if entry.platform and _ATTESTATION not in entry.annotations]
    fitting = [entry for entry in images if matches(entry.platform, wanted)]
    if not fitting:
        there = ", ".join(dict.fromkeys(str(entry.platform) for entry in images if entry.platform != _UNKNOWN))
        raise RegistryError(
            f"no matching manifest for {wanted} in the manifest list of {subject}",
            hint=f"--platform: there is {there}" if there else "",
        )
    preferred = wanted.variant or _DEFAULT_VARIANTS.get(wanted.architecture, "")
    return next((entry for entry in fitting if entry.platform and entry.platform.variant == preferred), fitting[0])


_UNKNOWN = Platform(architecture="unknown", os="unknown")


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
