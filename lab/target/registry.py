"""Which backends there are; a new one is one file in ``backends/`` and one line here.

A backend's file is imported when it is asked for: peers and libvirt are optional, and their imports are slow.
Each such file has ``open_backend(name, paths) -> Backend``. One that leaves choices to suites has
``open_with(name, paths, options) -> Backend`` as well, and names a module of its options, which is cheap to import.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from lab.errors import SpecError
from lab.paths import Paths
from lab.target.protocol import Backend
from lab.target.spec import Option, Options

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
    "qemu-tcg": "lab.target.backends.domain",
    "vm-tcg-clone": "lab.target.backends.domain",
}

_OPTION_MODULES = {
    "vm-tcg": "lab.target.backends.domain_options",
    "vm-kvm": "lab.target.backends.domain_options",
}

NAMES = tuple(_MODULES)


class _BackendModule(Protocol):
    def open_backend(self, name: str, paths: Paths) -> Backend: ...


class _OpenModule(Protocol):
    def open_with(self, name: str, paths: Paths, options: Options) -> Backend: ...


class _OptionModule(Protocol):
    @property
    def OPTIONS(self) -> tuple[Option, ...]: ...  # noqa: N802 - a constant of the module

    def check(self, options: Options) -> str: ...


def open_backend(name: str, paths: Paths, options: Options | None = None) -> Backend:
    """Return the backend that users call ``name``; whether this host can do it is ``check()``'s answer.

    ``options`` have been checked by ``refusal``.

    Raises:
        SpecError: there is no such backend.
    """
    if name not in _MODULES:
        raise SpecError(f"unknown target '{name}'", hint=f"one of: {', '.join(NAMES)}")
    # cast: a module is a value whose shape mypy cannot know before it is imported
    module = importlib.import_module(_MODULES[name])
    if options:
        return cast(_OpenModule, module).open_with(name, paths, options)
    return cast(_BackendModule, module).open_backend(name, paths)


def options_of(name: str) -> tuple[Option, ...]:
    """Return the choices that the backend ``name`` leaves to suites; most leave none."""
    return _option_module(name).OPTIONS if name in _OPTION_MODULES else ()


def refusal(name: str, options: Options) -> str:
    """Return why the backend ``name`` cannot have these options together, a sentence; "" if it can."""
    return _option_module(name).check(options) if options else ""


def _option_module(name: str) -> _OptionModule:
    return cast(_OptionModule, importlib.import_module(_OPTION_MODULES[name]))  # cast: as above
