"""Debian's packages on this host: what is installed, what can be fetched, and the tools that do it."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Sequence

from lab.errors import ContainerError, UnavailableError, disk_hint
from lab.linux import command

LAST_LINES = 6


def run_tool(argv: Sequence[str], *, package: str, cwd: str | None = None) -> command.Completed:
    """Run a tool of Debian's package ``package`` and return what it wrote.

    Raises:
        UnavailableError: the tool is not installed.
        ContainerError: it failed; the message ends with its last lines.
    """
    try:
        done = command.run(argv, cwd=cwd)
    except FileNotFoundError as error:
        raise missing(argv[0], package) from error
    if done.exit_code != 0:
        raise failed(argv, done.exit_code, done.error_text or done.text)
    return done


def missing(tool: str, package: str) -> UnavailableError:
    """Return the error that says that ``tool`` is not installed."""
    return UnavailableError(f"{tool} is not installed", hint=f"sudo apt install {package}")


def failed(argv: Sequence[str], exit_code: int, text: str) -> ContainerError:
    """Return the error that says that a tool failed, with the last lines that it wrote."""
    last = "\n  ".join(text.strip().splitlines()[-LAST_LINES:])
    return ContainerError(f"{argv[0]} failed with exit code {exit_code}:\n  {last}", hint=_hint(text))


def _hint(text: str) -> str:
    if "No space left on device" in text:
        return disk_hint(errno.ENOSPC)
    if "Unable to locate package" in text:
        return "search the names of Debian's packages: apt-cache search WORD"
    offline = ("Could not resolve", "Temporary failure resolving", "Could not connect", "Failed to fetch", "Unable to")
    if any(phrase in text for phrase in offline):
        return "check the network and apt's sources: sudo apt update"
    return ""


def installed_version(package: str) -> str:
    """Return the version of an installed package, "" when it is not installed (or this is no Debian)."""
    try:
        done = command.run(("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", package))
    except FileNotFoundError:
        return ""
    status, _, version = done.text.partition(" ")
    return version if done.exit_code == 0 and status == "installed" else ""


def debian_architecture() -> str:
    """Return Debian's name of this machine's architecture ("amd64"), which is OCI's for those that the lab knows."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def download(package: str, directory: str) -> str:
    """Fetch a package as apt would install it into ``directory`` and return the path of the .deb.

    Raises:
        UnavailableError: there is no apt on this host.
        ContainerError: it could not be fetched.
    """
    run_tool(("apt-get", "--quiet", "download", package), package="apt", cwd=directory)
    return glob.glob(os.path.join(directory, f"{package}_*.deb"))[0]


def field_of(package_path: str, name: str) -> str:
    """Return a field of a .deb's control file."""
    return run_tool(("dpkg-deb", "--field", package_path, name), package="dpkg").text
