"""Git repositories as build contexts and as sources of ADD: which URLs mean one, and a checkout without its history.

Source: https://docs.docker.com/build/concepts/context/#git-repositories, "URL fragments".
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass

from lab.errors import BuildFailed
from lab.linux import command

_URL = re.compile(r"(?:git://|ssh://|[\w.-]+@[\w.-]+:|github\.com/|https?://[^#]*\.git(?:#|$)|file://)")
_TIMEOUT_S = 600
# What a repository can make git do on this host is kept small: no prompt, no hooks, no program of its choice.
_SETTINGS = ("-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "init.defaultBranch=main")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Where a repository is, which branch, tag or commit is meant, "" for the default, and the directory in it."""

    url: str
    reference: str = ""
    subdirectory: str = ""


def is_repository(text: str) -> bool:
    """Return whether a context or source is a repository rather than a path or another URL."""
    return _URL.match(text) is not None


def parse_repository(text: str) -> Repository:
    """Return what "URL#REFERENCE:DIRECTORY" means."""
    url, _, fragment = text.partition("#")
    reference, _, subdirectory = fragment.partition(":")
    full = f"https://{url}" if url.startswith("github.com/") else url
    return Repository(url=full, reference=reference, subdirectory=subdirectory.strip("/"))


def clone(text: str, directory: str, *, keep_git_directory: bool = False) -> str:
    """Check a repository out below ``directory``, an empty one, and return where its files are.

    Raises:
        BuildFailed: git is missing or failed, or there is no such directory in it.
    """
    wanted = parse_repository(text)
    _git(directory, "init", "--quiet")
    _git(directory, "remote", "add", "origin", wanted.url)
    _git(directory, "fetch", "--quiet", "--depth=1", "origin", wanted.reference or "HEAD")
    _git(directory, "checkout", "--quiet", "FETCH_HEAD")
    if os.path.exists(os.path.join(directory, ".gitmodules")):
        _git(directory, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    if not keep_git_directory:
        shutil.rmtree(os.path.join(directory, ".git"))
    found = os.path.realpath(os.path.join(directory, wanted.subdirectory))
    if not found.startswith(os.path.realpath(directory)) or not os.path.isdir(found):
        raise BuildFailed(f"no directory {wanted.subdirectory} in {wanted.url}")
    return found


def _git(directory: str, *arguments: str) -> None:
    argv = ("env", "GIT_TERMINAL_PROMPT=0", "git", *_SETTINGS, "-C", directory, *arguments)
    done = command.run(argv, timeout_s=_TIMEOUT_S)
    if done.exit_code == 127:
        raise BuildFailed("git is not installed", hint="apt-get install git")
    if done.exit_code != 0:
        reason = done.error_text.splitlines()[-1] if done.error_text else f"exit code {done.exit_code}"
        raise BuildFailed(f"git {' '.join(arguments)}: {reason}")
