"""The ``debian`` image and those with more packages: Debian's packages, unpacked by Debian's tools.

``debian-workloads`` is ``debian``'s layer and a second one on it, as is every image with packages of the user's choice.
All are made with the host's package sources, proxies and keys, none of which stay in a layer: apt runs outside, with a
configuration of its own, and only dpkg runs inside. Sources: man mmdebstrap(1), man apt.conf(5).
"""

from __future__ import annotations

import os
import tarfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lab.container.image.assemble import Step
from lab.container.image.packages import LAST_LINES, debian_architecture, failed, missing
from lab.container.image.sources import AptSources
from lab.container.image.work import Job
from lab.container.storage.pack import Layer, pack_directory, pack_tar
from lab.container.storage.snapshots import Overlay, mount_overlay, unmount
from lab.errors import KernelError, UnavailableError
from lab.linux import command, mount

WORKLOAD_PACKAGES = ("nginx-light", "fio", "iperf3", "busybox-static")
_LABELLED = ("apt", "base-files", "dpkg", "libc6")
_DPKG_OPTIONS = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",  # licences ask to be passed on
)
_TOLD = ("I: ", "Need to get ", "Fetched ")  # lines of mmdebstrap and apt that say how far they are
_STATUS = "var/lib/dpkg/status"
_TRACES = (  # what installing leaves: records of when and how, and indexes that are made anew when they are missing
    "var/cache/apt/pkgcache.bin", "var/cache/apt/srcpkgcache.bin", "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old", "var/cache/ldconfig/aux-cache", "var/lib/dpkg/status-old",
    "var/lib/dpkg/available", "var/lib/dpkg/diversions-old", "var/lib/dpkg/statoverride-old",
    "var/log/alternatives.log", "var/log/dpkg.log", "usr/sbin/policy-rc.d",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A layer of Debian packages and the versions of those that labels name."""

    layer: Layer
    versions: Mapping[str, str]


def require_root() -> None:
    """Raise UnavailableError unless this is root: making device nodes, owners and mounts needs it."""
    if os.geteuid() != 0:
        raise UnavailableError("making a Debian image needs root", hint="sudo lab image bootstrap")


def make_minbase(job: Job, sources: AptSources, *, created_s: int) -> Installed:
    """Store a minimal Debian as a layer; some 15 s and 40 MB of download.

    Raises:
        UnavailableError: no root, or no mmdebstrap.
        ContainerError: mmdebstrap failed; the message ends with its last lines.
    """
    require_root()
    archive, kept_sources = os.path.join(job.work, "minbase.tar"), os.path.join(job.work, "kept.list")
    _write(kept_sources, sources.kept())
    _run(job, _mmdebstrap(sources, archive, kept_sources, job.work, created_s), package="mmdebstrap")
    job.progress("debian: packing the layer")
    with tarfile.open(archive, "r:") as tar:
        status = tar.extractfile(f"./{_STATUS}")
        versions = package_versions(status.read().decode() if status else "")
    layer = pack_tar(job.store.blobs, archive)
    return Installed(layer=layer, versions={name: versions[name] for name in _LABELLED if name in versions})


def add_packages(
    job: Job, sources: AptSources, lower: tuple[str, ...], packages: Sequence[str], *, created_s: int
) -> Installed:
    """Store the layer that ``packages``, and those that they need, make on top of ``lower`` (topmost first).

    Raises:
        UnavailableError: no root, or no apt.
        ContainerError: apt or dpkg failed; the message ends with the last lines.
        KernelError: the layers could not be stacked.
    """
    require_root()
    with _stacked(job.work, lower) as root:
        _write_apt_configuration(job.work, root, sources)
        for step in (("update",), ("install", "--", *packages), ("clean",)):
            job.progress(f"{job.name}: apt-get {' '.join(step)}")
            _run(job, _apt_get(job.work, step), package="apt")
        versions = package_versions(_read(os.path.join(root, _STATUS)))
        _remove_traces(root)
    job.progress(f"{job.name}: packing the layer")
    layer = pack_directory(job.store.blobs, os.path.join(job.work, "upper"), mtime_limit_s=created_s)
    return Installed(layer=layer, versions={name: versions[name] for name in packages if name in versions})


def step_of(installed: Installed, created_by: str, created_s: int) -> Step:
    """Return the history step of a layer of packages."""
    return Step(layer=installed.layer, created_by=created_by, created_s=created_s)


def labels_of(*installed: Installed) -> dict[str, str]:
    """Return the labels that name the packages' versions."""
    return {f"lab.package.{name}": version for each in installed for name, version in sorted(each.versions.items())}


def package_versions(status: str) -> dict[str, str]:
    """Return the version of each installed package in the text of dpkg's status file. Source: man deb-control(5)."""
    found: dict[str, str] = {}
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return found


def _mmdebstrap(sources: AptSources, archive: str, kept_sources: str, work: str, created_s: int) -> tuple[str, ...]:
    return (
        "env",
        f"SOURCE_DATE_EPOCH={created_s}",
        f"TMPDIR={work}",
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=tar",
        f"--architectures={debian_architecture()}",
        *(f"--aptopt={option}" for option in sources.options),
        *(f"--dpkgopt={option}" for option in _DPKG_OPTIONS),
        # what belongs to this host: its proxies, its name and name servers, its mirrors
        '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/resolv.conf "$1"/etc/hostname',
        f"--customize-hook=upload {kept_sources} /etc/apt/sources.list",
        sources.suite,
        archive,
        *sources.lines,
    )


def _apt_get(work: str, step: Sequence[str]) -> tuple[str, ...]:
    environment = (f"APT_CONFIG={work}/apt.conf", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
    return ("env", *environment, "apt-get", "--quiet", *step)


def apt_configuration(work: str, root: str, sources: AptSources) -> str:
    """Return an apt.conf with which the host's apt installs into ``root`` and keeps its own files in ``work``.

    As APT_CONFIG it is read first, so that ``Dir`` keeps apt from reading the host's configuration as well.
    """
    settings = {
        "Dir": f"{root}/",
        "Dir::State::lists": f"{work}/lists/",
        "Dir::Log": f"{work}/",
        "Dir::Etc::sourcelist": f"{work}/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Architecture": debian_architecture(),
        "APT::Get::Assume-Yes": "true",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",  # the host's user _apt may have another number inside
        "DPkg::Chroot-Directory": root,
        "Dpkg::Use-Pty": "false",
    }
    return "".join(f'{name} "{value}";\n' for name, value in settings.items()) + "".join(
        f"{option};\n" for option in sources.options
    )


def _write_apt_configuration(work: str, root: str, sources: AptSources) -> None:
    os.makedirs(os.path.join(work, "lists", "partial"))
    os.makedirs(os.path.join(root, "var/cache/apt/archives/partial"), exist_ok=True)
    _write(os.path.join(work, "sources.list"), "\n".join(sources.lines) + "\n")
    _write(os.path.join(work, "apt.conf"), apt_configuration(work, root, sources))
    policy = os.path.join(root, "usr/sbin/policy-rc.d")
    _write(policy, "#!/bin/sh\nexit 101\n")  # services are not to be started. Source: invoke-rc.d(8)
    os.chmod(policy, 0o755)


@contextmanager
def _stacked(work: str, lower: tuple[str, ...]) -> Iterator[str]:
    upper, overlay_work, root = (os.path.join(work, name) for name in ("upper", "overlay", "root"))
    for directory in (upper, overlay_work, root):
        os.mkdir(directory, 0o755)
    with ExitStack() as stack:
        mount_overlay(Overlay(lower=lower, upper=upper, work=overlay_work, volatile=True), root)
        stack.callback(unmount, root)
        proc = os.path.join(root, "proc")
        try:
            mount.mount("proc", proc, "proc", mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC, "")
        except OSError as error:
            raise KernelError("mount proc at", proc, error.strerror or str(error)) from error
        stack.callback(unmount, proc)
        yield root


def _remove_traces(root: str) -> None:
    for name in _TRACES:
        path = os.path.join(root, name)
        if os.path.lexists(path):
            os.unlink(path)


def _run(job: Job, argv: Sequence[str], *, package: str) -> None:
    """Run a long-running tool, telling what it says it does."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    process = command.spawn(argv, stdout=command.PIPE, stderr=command.STDOUT)
    assert process.stdout is not None, "it was asked for"
    try:
        for raw in process.stdout:
            last.append(raw.decode(errors="replace").rstrip())
            if last[-1].startswith(_TOLD):
                job.progress(f"{job.name}: {last[-1].removeprefix('I: ')}")
        exit_code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    tool = next(word for word in argv[1:] if "=" not in word)
    if exit_code == 127:  # env found no such program
        raise missing(tool, package)
    if exit_code != 0:
        raise failed((tool, *argv), exit_code, "\n".join(last))


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
