"""`lab login` and `lab logout`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lab.cli import output
from lab.errors import EXIT_OK, LabError, RegistryError, SpecError
from lab.paths import Paths

if TYPE_CHECKING:
    from lab.container.registry.credentials import Credential
    from lab.container.registry.session import Session

_PASSWORD_BYTES_MAX = 64 * 1024
_INSECURE_PASSWORD = "WARNING! Using --password via the CLI is insecure. Use --password-stdin."
_UNENCRYPTED = """WARNING! Your password will be stored unencrypted in {path}.
Configure a credential helper to remove this warning. See
https://docs.docker.com/engine/reference/commandline/login/#credential-stores
"""


def add_login(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``login``."""
    parser.add_argument("server", nargs="?", default="", metavar="SERVER", help="HOST[:PORT] (default: docker.io)")
    parser.add_argument("-u", "--username", default="", metavar="NAME", help="who to log in as")
    parser.add_argument("-p", "--password", default=None, metavar="PASSWORD", help="seen by all users of this host")
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    _add_insecure(parser)


def _add_insecure(parser: argparse.ArgumentParser) -> None:
    from lab.cli.registry_pull import add_insecure

    add_insecure(parser)


def login(arguments: argparse.Namespace, paths: Paths) -> int:
    """Try a credential at a registry, and keep it."""
    from lab.container.registry.login import log_in, registry_name
    from lab.container.registry.session import session

    name = registry_name(arguments.server)
    with session(paths, insecure=(name,) if arguments.insecure else ()) as registries:
        if not _is_good_already(arguments, registries, name):
            kept = log_in(registries, name, _credential(arguments))
            _warn(registries, name, kept)
    output.line("Login Succeeded")
    return EXIT_OK


def _is_good_already(arguments: argparse.Namespace, registries: Session, name: str) -> bool:
    """Return whether what is kept is still accepted; it is tried when nothing else is given."""
    from lab.container.registry.hosts import endpoint
    from lab.container.registry.login import log_in

    given = arguments.username or arguments.password is not None or arguments.password_stdin
    kept = None if given else registries.credentials.get(endpoint(name, registries.settings).server)
    if not kept:
        return False
    output.note("Authenticating with existing credentials..." + (f" [Username: {kept.user}]" if kept.user else ""))
    try:
        log_in(registries, name, kept)
    except RegistryError as error:
        if not sys.stdin.isatty() or error.status != 401:
            raise
        output.note(f"Login did not succeed, error: {error}")
        return False
    return True


def _warn(registries: Session, name: str, kept: Credential) -> None:
    from lab.container.registry.hosts import endpoint

    server = endpoint(name, registries.settings).server
    if kept.password and not registries.credentials.helper(server):
        output.note(_UNENCRYPTED.format(path=registries.credentials.path))


def _credential(arguments: argparse.Namespace) -> Credential:
    """Return what is given or asked for."""
    from lab.container.registry.credentials import Credential

    if arguments.password is not None:
        if arguments.password_stdin:
            raise SpecError("conflicting options: cannot specify both --password and --password-stdin")
        output.note(_INSECURE_PASSWORD)
    if arguments.password_stdin:
        if not arguments.username:
            raise SpecError("the --password-stdin option requires --username to be set")
        return Credential(user=arguments.username, password=_from_stdin())
    if arguments.username and arguments.password is not None:
        return Credential(user=arguments.username, password=arguments.password)
    if not sys.stdin.isatty():
        raise LabError("Cannot perform an interactive login from a non TTY device", hint="--password-stdin")
    return _asked_for(arguments)


def _from_stdin() -> str:
    data = sys.stdin.buffer.read(_PASSWORD_BYTES_MAX + 1)
    if len(data) > _PASSWORD_BYTES_MAX:
        raise SpecError("the password on standard input is too long")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise SpecError("the password on standard input is not UTF-8") from error


def _asked_for(arguments: argparse.Namespace) -> Credential:
    import getpass  # only who is asked

    from lab.container.registry.credentials import Credential

    user = arguments.username or input("Username: ").strip()
    if not user:
        raise SpecError("username is empty")
    password = getpass.getpass("Password: ") if arguments.password is None else arguments.password
    if not password:
        raise SpecError("password is empty")
    return Credential(user=user, password=password)


def add_logout(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``logout``."""
    parser.add_argument("server", nargs="?", default="", metavar="SERVER", help="HOST[:PORT] (default: docker.io)")


def logout(arguments: argparse.Namespace, paths: Paths) -> int:
    """Forget the credential for a registry."""
    from lab.container.registry.hosts import endpoint
    from lab.container.registry.login import log_out, registry_name
    from lab.container.registry.session import session

    name = registry_name(arguments.server)
    with session(paths) as registries:
        output.line(f"Removing login credentials for {endpoint(name, registries.settings).server}")
        log_out(registries, name)
    return EXIT_OK
