"""A Project as the canonical document of `compose config`, and the hash of a service; pure."""

from __future__ import annotations

from lab.compose.model import Project, Service


def document(project: Project) -> dict[str, object]:
    """Return the active part of a project as plain data, in the form of a compose file."""
    raise NotImplementedError


def config_hash(service: Service) -> str:
    """Return the SHA-256, in hex, of what makes a service's containers what they are.

    How many there are, what they wait for and how the image is built is not in it.
    """
    raise NotImplementedError
