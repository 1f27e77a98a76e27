"""``--trust-host-ca``: the host's certificates in a container, for people behind a proxy that signs with its own.

The bundle is mounted, never copied, so that nothing of it gets into an image; programs find it by their variables.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from lab.container.defaults import ContainerConfig
from lab.container.spec.runtime import Mount
from lab.errors import UnavailableError

BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""Where distributions keep all certificates in one file: Debian, Red Hat, Alpine."""

PLACE = "/run/lab-host-ca/ca-certificates.crt"
_APT_PLACE = "/run/lab-host-ca/apt.conf"
_VARIABLES = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTrust:
    """What a container gets to trust whom the host trusts."""

    mounts: tuple[Mount, ...]
    env: tuple[str, ...]


def find_bundle() -> str:
    """Return the host's bundle.

    Raises:
        UnavailableError: it has none in any of the usual places.
    """
    found = next((path for path in BUNDLES if os.path.isfile(path)), "")
    if not found:
        raise UnavailableError(
            f"this host has no certificates in {', '.join(BUNDLES)}", hint="apt-get install ca-certificates"
        )
    return found


def host_trust(bundle: str, directory: str) -> HostTrust:
    """Return the mounts and variables for the bundle at a path; apt's configuration for it is kept in ``directory``.

    Raises:
        OSError: it cannot be written.
    """
    os.makedirs(directory, exist_ok=True)
    apt = os.path.join(directory, "apt.conf")
    with open(f"{apt}.{os.getpid()}", "w", encoding="ascii") as file:
        file.write(f'Acquire::https::CaInfo "{PLACE}";\n')
    os.replace(f"{apt}.{os.getpid()}", apt)
    return HostTrust(
        mounts=(_read_only(os.path.realpath(bundle), PLACE), _read_only(apt, _APT_PLACE)),
        env=(*(f"{name}={PLACE}" for name in _VARIABLES), f"APT_CONFIG={_APT_PLACE}"),
    )


def trusting(config: ContainerConfig, directory: str) -> ContainerConfig:
    """Return a container's configuration with the host's trust added; what it sets itself stays. See ``host_trust``.

    Raises:
        UnavailableError: the host has no bundle.
        OSError: apt's configuration cannot be written.
    """
    trust = host_trust(find_bundle(), directory)
    given = {line.partition("=")[0] for line in config.env}
    added = (line for line in trust.env if line.partition("=")[0] not in given)
    return replace(config, mounts=(*config.mounts, *trust.mounts), env=(*added, *config.env))


def _read_only(source: str, destination: str) -> Mount:
    return Mount(destination=destination, type="bind", source=source, options=("bind", "ro"))
