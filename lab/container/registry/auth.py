"""Proving to a registry who one is: basic authentication, and tokens that its token server gives.

Sources: https://distribution.github.io/distribution/spec/auth/token/ and .../oauth/.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlencode, urlsplit

from lab.container.registry.challenge import Challenge, parse_challenges
from lab.container.registry.credentials import Credential
from lab.container.registry.exchange import Exchange
from lab.container.registry.failures import refusal
from lab.container.registry.transport import Answer, Request
from lab.errors import RegistryError

Scopes = tuple[str, ...]
CLIENT_ID = "lab"
_TOKEN_BYTES_MAX = 1024 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+")
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Authorizer:
    """What one registry lets us do, and the headers that show it; of several threads' use at once.

    ``refresh_token`` is what the token server gave to be kept instead of the password, if it was asked for one.
    """

    def __init__(
        self, host: str, credential: Callable[[], Credential], exchange: Exchange, *, offline: bool = False
    ) -> None:
        self._host = host
        self._credential = credential
        self._exchange = exchange
        self._offline = offline
        self._headers: dict[Scopes, str] = {}
        self._lock = threading.Lock()
        self.refresh_token = ""

    def header(self, scopes: Scopes) -> str:
        """Return the Authorization header for what is to be done, "" if none is needed so far."""
        return self._headers.get(scopes, "")

    def renew(self, challenges: Iterable[str], scopes: Scopes, used: str, *, plain: bool) -> None:
        """Get a header that meets a 401 to a request with the header ``used``, over plain HTTP if ``plain``.

        Raises:
            RegistryError: there is no credential, it is refused, or the challenge is not understood.
        """
        with self._lock:
            if self._headers.get(scopes, "") == used:  # else another thread has got one meanwhile
                self._headers[scopes] = self._answer(parse_challenges(challenges), scopes, plain=plain)

    def _answer(self, challenges: Iterable[Challenge], scopes: Scopes, *, plain: bool) -> str:
        by_scheme = {challenge.scheme: challenge for challenge in challenges}
        if "bearer" in by_scheme:
            return f"Bearer {self._token(by_scheme['bearer'].parameters, scopes, plain=plain)}"
        if "basic" in by_scheme:
            return self._basic()
        asked = ", ".join(sorted(by_scheme)) or "nothing that can be read"
        raise RegistryError(
            f"{self._host} wants authentication by {asked}; basic authentication and tokens are understood", status=401
        )

    def _basic(self) -> str:
        credential = self._credential()
        if not credential.user:
            raise self._unknown("no basic auth credentials")
        return _basic(credential)

    def _unknown(self, reason: str) -> RegistryError:
        return RegistryError(f"{self._host}: {reason}", status=401, hint=f"lab login {self._host}")

    def _token(self, parameters: Mapping[str, str], scopes: Scopes, *, plain: bool) -> str:
        credential = self._credential()
        if credential.registry_token:
            return credential.registry_token
        realm = parameters.get("realm", "")
        if urlsplit(realm).scheme not in ("http", "https"):
            raise RegistryError(f"{self._host} names no token server that can be asked: {realm!r}", status=401)
        if credential and not plain and not self._exchange.may_be_plain(realm):
            raise RegistryError(f"{self._host} wants credentials sent unencrypted to {urlsplit(realm).netloc}")
        service = parameters.get("service", "")
        if credential.identity_token:
            request = _oauth_request(realm, service, scopes, credential.identity_token)
        else:
            request = _token_request(realm, service, scopes, credential, offline=self._offline)
        with self._exchange.ask(request) as answer:
            return self._read(answer, urlsplit(realm).netloc)

    def _read(self, answer: Answer, host: str) -> str:
        data = answer.body(_TOKEN_BYTES_MAX)
        if answer.status != 200:
            raise self._refused(host, answer, data)
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise RegistryError(f"the token server {host} gave no token, but {answer.headers.get('content-type', '')}")
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise RegistryError(f"the token server {host} gave no token")
        self.refresh_token = str(document.get("refresh_token") or "")
        return token

    def _refused(self, host: str, answer: Answer, data: bytes) -> RegistryError:
        error = refusal(host, f"get a token for {self._host}", answer.status, answer.headers, data)
        if error.status in (400, 401, 403):
            error.hint = f"lab login {self._host}"
        return error


def _basic(credential: Credential) -> str:
    return "Basic " + base64.b64encode(f"{credential.user}:{credential.password}".encode()).decode()


def _token_request(realm: str, service: str, scopes: Scopes, credential: Credential, *, offline: bool) -> Request:
    fields = [("service", service)] if service else []
    fields += [("scope", scope) for scope in scopes]
    headers: dict[str, str] = {}
    if credential.user:
        fields.append(("account", credential.user))
        headers["Authorization"] = _basic(credential)
    if offline:
        fields += [("offline_token", "true"), ("client_id", CLIENT_ID)]
    separator = "&" if urlsplit(realm).query else "?"
    return Request(method="GET", url=f"{realm}{separator}{urlencode(fields)}", headers=headers)


def _oauth_request(realm: str, service: str, scopes: Scopes, identity_token: str) -> Request:
    fields = {"grant_type": "refresh_token", "service": service, "client_id": CLIENT_ID}
    form = urlencode({**fields, "scope": " ".join(scopes), "refresh_token": identity_token}).encode()
    return Request(method="POST", url=realm, headers=_FORM, body=lambda: (form,), length=len(form))
