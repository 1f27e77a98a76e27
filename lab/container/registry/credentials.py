"""Credentials for registries, in docker's own configuration file, or with the helper programs that it names.

They are never logged, never in a message, and never in an argument of a program. Sources:
https://docs.docker.com/reference/cli/docker/login/; https://github.com/docker/docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lab.container.registry.hosts import DEFAULT_SERVER
from lab.container.storage import durable
from lab.errors import ContainerError, KernelError, SpecError
from lab.linux import command

_TOKEN_USER = "<token>"  # the user name by which helpers give an identity token instead of a password
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_TIMEOUT_S = 60
_NOT_FOUND = "credentials not found in native keychain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What proves who one is: a password, or a token that stands for it; all "" for nobody."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        """Return whether there is anything to prove with."""
        return bool(self.user or self.identity_token or self.registry_token)


class CredentialFile:
    """Docker's ``config.json``; everything in it that is not a credential stays as it is."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get(self, server: str) -> Credential:
        """Return the credential for a server, an empty one if there is none.

        Raises:
            SpecError: the file cannot be read.
            ContainerError: a helper failed.
        """
        document = self._read()
        helper = _helper(document, server)
        if helper:
            return _from_helper(helper, server)
        auths = _object(document, "auths")
        for name in (server, *(each for each in auths if _host(each) == _host(server))):
            if isinstance(entry := auths.get(name), dict):
                return self._decoded(entry, name)
        return Credential()

    def helper(self, server: str) -> str:
        """Return the helper that keeps the credential of a server, "" if it is the file itself."""
        return _helper(self._read(), server)

    def put(self, server: str, credential: Credential) -> None:
        """Keep a credential, with the helper if one is named, else in the file.

        Raises:
            SpecError: the file cannot be read.
            ContainerError: a helper failed.
            KernelError: the file cannot be written.
        """
        document = self._read()
        helper = _helper(document, server)
        if helper:
            _to_helper(helper, server, credential)
        auths = dict(_object(document, "auths"))
        auths[server] = {} if helper else _encoded(credential)
        self._write({**document, "auths": auths})

    def erase(self, server: str) -> bool:
        """Forget the credential of a server, and return whether there was one.

        Raises:
            SpecError: the file cannot be read.
            ContainerError: a helper failed.
            KernelError: the file cannot be written.
        """
        document = self._read()
        auths = dict(_object(document, "auths"))
        names = [name for name in auths if name == server or _host(name) == _host(server)]
        helper = _helper(document, server)
        had_one = bool(names) or (bool(helper) and bool(_from_helper(helper, server)))
        if helper and had_one:
            _run_helper(helper, "erase", server.encode())
        for name in names:
            del auths[name]
        if names:
            self._write({**document, "auths": auths})
        return had_one

    def _read(self) -> dict[str, object]:
        try:
            with open(self.path, "rb") as file:
                document = json.load(file)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SpecError(f"cannot read it: {error.strerror}", path=self.path) from error
        except ValueError as error:
            raise SpecError("not JSON", path=self.path, hint="repair it, or log in anew without it") from error
        if not isinstance(document, dict):
            raise SpecError("not a JSON object", path=self.path)
        return document

    def _write(self, document: Mapping[str, object]) -> None:
        target = os.path.realpath(self.path)  # what is a link stays one
        try:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            durable.write_atomically(target, json.dumps(document, indent="\t").encode() + b"\n", mode=0o600)
        except OSError as error:
            raise KernelError("write", target, error.strerror or str(error)) from error

    def _decoded(self, entry: Mapping[str, object], name: str) -> Credential:
        user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
        if auth := entry.get("auth"):
            try:
                user, _, password = base64.b64decode(str(auth), validate=True).decode().partition(":")
            except (binascii.Error, ValueError):
                raise SpecError(f"the credential of {name} is damaged", path=self.path, hint="lab login") from None
        return Credential(
            user=user,
            password=password.strip("\0"),
            identity_token=str(entry.get("identitytoken") or ""),
            registry_token=str(entry.get("registrytoken") or ""),
        )


def _encoded(credential: Credential) -> dict[str, str]:
    password = "" if credential.identity_token else credential.password
    auth = base64.b64encode(f"{credential.user}:{password}".encode()).decode()
    return {"auth": auth} | ({"identitytoken": credential.identity_token} if credential.identity_token else {})


def _helper(document: Mapping[str, object], server: str) -> str:
    helpers = _object(document, "credHelpers")
    found = helpers.get(server) or helpers.get(_host(server)) or document.get("credsStore") or ""
    if found and not (isinstance(found, str) and _HELPER.fullmatch(found)):
        raise SpecError(f"not the name of a credential helper: {found!r}")
    return str(found)


def _object(document: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _host(server: str) -> str:
    """Return the host that an entry is for: older files have URLs, with and without a path."""
    if server == DEFAULT_SERVER:
        return "index.docker.io"
    return (urlsplit(server).netloc if "://" in server else server.partition("/")[0]) or server


def _from_helper(helper: str, server: str) -> Credential:
    done = _helper_result(helper, "get", server.encode())
    if done.exit_code != 0:
        if _NOT_FOUND in done.text or _NOT_FOUND in done.error_text:
            return Credential()
        raise _helper_failed(helper, "get", done)
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise ContainerError(f"docker-credential-{helper} get: its answer is no credential") from None
    return Credential(identity_token=secret) if user == _TOKEN_USER else Credential(user=user, password=secret)


def _to_helper(helper: str, server: str, credential: Credential) -> None:
    user = _TOKEN_USER if credential.identity_token else credential.user
    secret = credential.identity_token or credential.password
    _run_helper(helper, "store", json.dumps({"ServerURL": server, "Username": user, "Secret": secret}).encode())


def _run_helper(helper: str, verb: str, stdin: bytes) -> None:
    done = _helper_result(helper, verb, stdin)
    if done.exit_code != 0:
        raise _helper_failed(helper, verb, done)


def _helper_result(helper: str, verb: str, stdin: bytes) -> command.Completed:
    program = f"docker-credential-{helper}"
    try:
        return command.run((program, verb), stdin=stdin, timeout_s=_HELPER_TIMEOUT_S)
    except FileNotFoundError as error:
        raise ContainerError(
            f"the credential helper {program} is not installed",
            hint="install it, or take it out of docker's config.json",
        ) from error
    except (OSError, TimeoutError) as error:
        raise ContainerError(f"the credential helper {program} failed: {error}") from error


def _helper_failed(helper: str, verb: str, done: command.Completed) -> ContainerError:
    reason = "" if verb == "store" else (done.text or done.error_text).partition("\n")[0]
    return ContainerError(f"docker-credential-{helper} {verb} failed: {reason or f'exit code {done.exit_code}'}")
