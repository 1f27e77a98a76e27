"""An exchange with what the network makes of it: redirects are followed, and what may pass is tried again."""

from __future__ import annotations

import datetime
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

from lab.container.registry.failures import TRIES, delay_s, is_transient
from lab.container.registry.hosts import Settings, is_insecure
from lab.container.registry.transport import Answer, Interrupted, Request, Transport
from lab.errors import RegistryError

_REDIRECTS_MAX = 10
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_BODY_KEPT = frozenset((307, 308))
_SAFE = frozenset(("GET", "HEAD"))
_INTERRUPTIONS_MAX = 2


class Exchange:
    """Asks registries and whom they send us to."""

    def __init__(self, transport: Transport, settings: Settings) -> None:
        self.transport = transport
        self._settings = settings

    def ask(self, request: Request) -> Answer:
        """Return the answer, whatever its status, after redirects and repetitions.

        Raises:
            Unreachable: there is no connection.
            Interrupted: the connection broke, more than once if the request may be repeated.
            RegistryError: a redirect is not to be followed.
        """
        for _ in range(_REDIRECTS_MAX):
            answer = self._patiently(request)
            location = answer.headers.get("location", "")
            if answer.status not in _REDIRECTS or not location:
                return answer
            answer.close()
            request = self._redirected(request, answer.status, location)
        raise RegistryError(f"{urlsplit(request.url).netloc} redirects in a loop: gave up after {_REDIRECTS_MAX} times")

    def pause(self, attempt: int, retry_after: str = "") -> None:
        """Wait after the ``attempt``-th failure, from 0.

        Raises:
            Cancelled: the command ends.
        """
        now = datetime.datetime.now(datetime.UTC)
        self.transport.wait(delay_s(attempt, retry_after, now, first_s=self._settings.backoff_s))

    def may_be_plain(self, url: str) -> bool:
        """Return whether this URL may be asked: it is encrypted, or its host may be insecure."""
        parts = urlsplit(url)
        return parts.scheme == "https" or (parts.scheme == "http" and is_insecure(parts.netloc, self._settings))

    def may_follow(self, before: str, after: str) -> bool:
        """Return whether one may be sent from one URL to another: unencrypted only to where one is already."""
        return self.may_be_plain(after) or urlsplit(before)[:2] == urlsplit(after)[:2]

    def _redirected(self, request: Request, status: int, location: str) -> Request:
        url = urljoin(request.url, location)
        before, after = urlsplit(request.url), urlsplit(url)
        if not self.may_follow(request.url, url):
            raise RegistryError(f"{before.netloc} redirects to {after.scheme}://{after.netloc}, which is not encrypted")
        if request.method not in _SAFE and status not in _BODY_KEPT:
            raise RegistryError(f"{before.netloc} redirects a {request.method}, which it may not")
        headers = dict(request.headers)
        if (before.scheme, before.netloc) != (after.scheme, after.netloc):
            headers.pop("Authorization", None)  # who is sent elsewhere does not take the key along
        return replace(request, url=url, headers=headers)

    def _patiently(self, request: Request) -> Answer:
        interruptions = 0
        for attempt in range(TRIES):
            try:
                answer = self.transport.send(request)
            except Interrupted:
                interruptions += 1
                if not (request.repeats or request.method in _SAFE) or interruptions >= _INTERRUPTIONS_MAX:
                    raise
                self.pause(attempt)
                continue
            if attempt + 1 == TRIES or not is_transient(answer.status):
                return answer
            answer.close()
            self.pause(attempt, answer.headers.get("retry-after", ""))
        raise AssertionError  # the last attempt returns or raises
