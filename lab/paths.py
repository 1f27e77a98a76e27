"""Where the lab keeps things and finds the daemons of others; the only reader of the environment below ``cli/``.

All state lives under one root directory, all of what can be made again under one cache directory, and
what is gone after a reboot under one run directory. Paths are plain strings: this file is imported on
the container start path, where ``pathlib`` would cost milliseconds.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Paths:
    """The directories of one lab installation; nothing is created by asking for a path."""

    __slots__ = ("cache", "root", "run")

    def __init__(self, *, root: str, cache: str, run: str) -> None:
        self.root = root
        self.cache = cache
        self.run = run

    @classmethod
    def under(cls, root: str) -> Paths:
        """Return the layout that ``--root ROOT`` asks for: everything below one directory."""
        root = os.path.abspath(root)
        return cls(root=root, cache=os.path.join(root, "cache"), run=os.path.join(root, "run"))

    @classmethod
    def default(cls, environ: Mapping[str, str] | None = None, *, uid: int | None = None) -> Paths:
        """Return the layout of this user: ``LAB_ROOT``, else /var/lib/lab for root, else the XDG places."""
        env = os.environ if environ is None else environ
        if env.get("LAB_ROOT"):
            return cls.under(env["LAB_ROOT"])
        if (os.geteuid() if uid is None else uid) == 0:
            return cls(root="/var/lib/lab", cache="/var/cache/lab", run="/run/lab")
        home = env.get("HOME", "/")
        data = env.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
        cache = env.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
        run = env.get("XDG_RUNTIME_DIR") or os.path.join(cache, "run")
        return cls(root=os.path.join(data, "lab"), cache=os.path.join(cache, "lab"), run=os.path.join(run, "lab"))

    @property
    def images(self) -> str:
        """The OCI content store and the image names."""
        return os.path.join(self.root, "images")

    @property
    def builds(self) -> str:
        """What builds keep: the layers of their steps, cache mounts, and work directories of those that run now."""
        return os.path.join(self.root, "builds")

    @property
    def containers(self) -> str:
        """One directory per container of our engine."""
        return os.path.join(self.root, "containers")

    @property
    def layers(self) -> str:
        """Unpacked layers, by chain id."""
        return os.path.join(self.root, "layers")

    @property
    def networks(self) -> str:
        """Networks and their address leases."""
        return os.path.join(self.root, "networks")

    @property
    def volumes(self) -> str:
        """Named and anonymous volumes."""
        return os.path.join(self.root, "volumes")

    @property
    def processes(self) -> str:
        """Roots of bare processes that exist now, one directory each."""
        return os.path.join(self.root, "processes")

    @property
    def registries(self) -> str:
        """What the user has said about registries: mirrors, and which may be insecure."""
        return os.path.join(self.root, "registries.json")

    @property
    def certificates(self) -> str:
        """Certificates of registries, one directory per host and port, as in docker's certs.d."""
        return os.path.join(self.root, "certs.d")

    @property
    def runs(self) -> str:
        """Measuring runs, one directory each, unless ``lab bench run --output`` says otherwise."""
        return os.path.join(self.root, "runs")

    @property
    def guests(self) -> str:
        """Writable disks and sockets of guests that exist now."""
        return os.path.join(self.root, "guests")

    @property
    def machines(self) -> str:
        """One directory per machine of `lab vm run`."""
        return os.path.join(self.root, "machines")

    @property
    def guest_kernels(self) -> str:
        """Guest kernels, modules and initramfs images made from them."""
        return os.path.join(self.cache, "guest-kernels")

    @property
    def disk_templates(self) -> str:
        """Read-only disk images made from container images, by digest."""
        return os.path.join(self.cache, "disk-templates")

    @property
    def libvirt(self) -> str:
        """Root of libvirt's embedded driver; kept, since its capability cache costs seconds to make."""
        return os.path.join(self.cache, "libvirt")

    @property
    def testbed(self) -> str:
        """The disk of the testbed's machine while there is one."""
        return os.path.join(self.root, "testbed")

    @property
    def testbed_run(self) -> str:
        """Sockets, state and console of the testbed's machine."""
        return os.path.join(self.run, "testbed")

    @property
    def testbed_cache(self) -> str:
        """What the testbed's machine is made of: its disks, and its state when it was ready."""
        return os.path.join(self.cache, "testbed")

    @property
    def checks(self) -> str:
        """Answers of expensive host checks, valid for one boot of one host."""
        return os.path.join(self.cache, "checks")


def docker_host(environ: Mapping[str, str] | None = None) -> str:
    """Return the address of the user's docker daemon as DOCKER_HOST gives it, "" when it is not set."""
    return (os.environ if environ is None else environ).get("DOCKER_HOST", "")


def docker_config(environ: Mapping[str, str] | None = None) -> str:
    """Return the path of docker's configuration file, which holds credentials: DOCKER_CONFIG, else ~/.docker."""
    env = os.environ if environ is None else environ
    directory = env.get("DOCKER_CONFIG") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".docker")
    return os.path.join(directory, "config.json")


def proxies(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in lower or upper case, as "http", "https" and "no"."""
    env = os.environ if environ is None else environ
    found = {name: env.get(f"{name}_proxy") or env.get(f"{name}_proxy".upper(), "") for name in ("http", "https", "no")}
    return {name: value for name, value in found.items() if value}


_LIMITS = {"entries": "LAB_LAYER_ENTRIES_MAX", "size_bytes": "LAB_LAYER_BYTES_MAX"}


def layer_limits(environ: Mapping[str, str] | None = None) -> dict[str, int]:
    """Return the limits of layers that the user has set, by name: ``entries``, ``size_bytes``.

    Raises:
        SpecError: a variable holds no number of bytes or entries.
    """
    env = os.environ if environ is None else environ
    return {name: _number(variable, env[variable]) for name, variable in _LIMITS.items() if env.get(variable)}


def _number(variable: str, text: str) -> int:
    from lab.errors import SpecError  # not on the container start path
    from lab.units import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise SpecError(f"{variable}: {error}", hint=f"{variable}=128GiB") from error
