"""Which backends there are; a new one is one file in ``backends/`` and one line here.

A backend's file is imported when it is asked for: peers and libvirt are optional, and their imports are slow.
Each such file has ``open_backend(name, paths) -> Backend``.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from lab.errors import SpecError
from lab.paths import Paths
from lab.target.protocol import Backend

_MODULES = {
    "process": "lab.target.backends.process",
    "container": "lab.target.backends.engine",
    "runc": "lab.target.backends.oci_runtime",
    "crun": "lab.target.backends.oci_runtime",
    "runsc": "lab.target.backends.oci_runtime",
    "podman": "lab.target.backends.podman",
    "docker": "lab.target.backends.docker",
    "vm-tcg": "lab.target.backends.domain",
    "vm-kvm": "lab.target.backends.domain",
}

NAMES = tuple(_MODULES)


class _BackendModule(Protocol):
    def open_backend(self, name: str, paths: Paths) -> Backend: ...


def open_backend(name: str, paths: Paths) -> Backend:
    """Return the backend that users call ``name``; whether this host can do it is ``check()``'s answer.

    Raises:
        SpecError: there is no such backend.
    """
    if name not in _MODULES:
        raise SpecError(f"unknown target '{name}'", hint=f"one of: {', '.join(NAMES)}")
    # cast: a module is a value whose shape mypy cannot know before it is imported
    module = cast(_BackendModule, importlib.import_module(_MODULES[name]))
    return module.open_backend(name, paths)
