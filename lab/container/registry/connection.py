"""One registry, spoken to: over TLS or not, authenticated as far as it asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

from lab.container.registry.auth import Authorizer, Scopes
from lab.container.registry.exchange import Exchange
from lab.container.registry.failures import refusal
from lab.container.registry.hosts import Endpoint
from lab.container.registry.transport import Answer, Interrupted, Request, Unreachable
from lab.errors import RegistryError

ERROR_BYTES_MAX = 64 * 1024
_RENEWALS_MAX = 2
OK = (200,)


class Registry:
    """A registry, or a mirror that stands for one."""

    def __init__(self, endpoint: Endpoint, exchange: Exchange, authorizer: Authorizer) -> None:
        self.endpoint = endpoint
        self.exchange = exchange
        self._authorizer = authorizer
        self._lock = threading.Lock()
        self._base = ""
        self._challenges: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """The host, with its port."""
        return self.endpoint.host

    def ask(
        self,
        method: str,
        path: str,
        *,
        what: str,
        scopes: Scopes = (),
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Iterable[bytes]] | None = None,
        length: int = 0,
        repeats: bool = False,
        hoped_for: Collection[int] = OK,
    ) -> Answer:
        """Return the answer to a request for ``path``, which may be a whole URL, if its status is one hoped for.

        Raises:
            RegistryError: it is another one, or there is no answer; ``what`` says there what was being done.
        """
        url = urljoin(self.base(), f"{self.endpoint.prefix}{path}" if path.startswith("/") else path)
        request = Request(method=method, url=url, headers=headers or {}, body=body, length=length, repeats=repeats)
        answer = self._authorized(request, scopes)
        if answer.status in hoped_for:
            return answer
        with answer:
            raise refusal(self.host, what, answer.status, answer.headers, _beginning(answer))

    def base(self) -> str:
        """Return the URL of the registry's root, found by trying.

        Raises:
            Unreachable: there is no connection.
        """
        with self._lock:
            if not self._base:
                self._base = self._found()
            return self._base

    def _found(self) -> str:
        *insecurely, last = self.endpoint.schemes
        for scheme in insecurely:
            try:
                return self._tried(scheme)
            except (Unreachable, Interrupted):
                continue
        return self._tried(last)

    def _tried(self, scheme: str) -> str:
        base = f"{scheme}://{self.host}/"
        request = Request(method="GET", url=urljoin(base, f"{self.endpoint.prefix}/v2/"))
        with self.exchange.ask(request) as answer:
            self._challenges = answer.challenges if answer.status == 401 else ()
        return base

    def _authorized(self, request: Request, scopes: Scopes) -> Answer:
        if self._challenges and not self._authorizer.header(scopes) and self._is_ours(request.url):
            self._renew(self._challenges, scopes, "", request.url)
        for _ in range(_RENEWALS_MAX):
            used = self._authorizer.header(scopes) if self._is_ours(request.url) else ""
            answer = self._asked(request, used)
            if answer.status != 401 or not self._is_ours(request.url):
                return answer
            answer.close()
            self._renew(answer.challenges, scopes, used, request.url)
        return self._asked(request, self._authorizer.header(scopes))

    def _renew(self, challenges: Iterable[str], scopes: Scopes, used: str, url: str) -> None:
        self._authorizer.renew(challenges, scopes, used, plain=urlsplit(url).scheme == "http")

    def _asked(self, request: Request, authorization: str) -> Answer:
        headers = {**request.headers, "Authorization": authorization} if authorization else request.headers
        return self.exchange.ask(replace(request, headers=headers))

    def _is_ours(self, url: str) -> bool:
        """Return whether a URL is this registry's own: an upload may be told to go elsewhere."""
        return urlsplit(url)[:2] == urlsplit(self._base)[:2]


def _beginning(answer: Answer) -> bytes:
    data = b""
    try:
        for piece in answer.pieces():
            data += piece
            if len(data) > ERROR_BYTES_MAX:
                break
    except RegistryError:  # what was refused is told all the same
        pass
    return data[:ERROR_BYTES_MAX]
