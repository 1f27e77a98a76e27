"""A registry of the tests' own: real HTTP on loopback, with images in memory, and whatever fault a test wants."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lab.container.registry.credentials import CredentialFile
from lab.container.registry.exchange import Exchange
from lab.container.registry.hosts import Proxies, Settings
from lab.container.registry.progress import Step
from lab.container.registry.session import Session
from lab.container.registry.transport import Transport

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


class _Server(ThreadingHTTPServer):
    """A server that takes it as it is when a client goes away."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@dataclass
class Reply:
    """What is answered, nothing if the status is 0 (at once, or never).

    ``cut`` bytes of the body are sent, all if None; ``stall`` keeps the connection after them.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    stall: bool = False


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Fault = Callable[[Seen], Reply | None]


class Scripted:
    """A registry whose every answer a test may replace, by ``fault``; uploads are kept as they come."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.fault: Fault = lambda _: None
        self.ended = threading.Event()
        self.server = _Server(("127.0.0.1", 0), self._handler())
        self.host = f"127.0.0.1:{self.server.server_address[1]}"

    def add(self, data: bytes) -> dict[str, object]:
        """Keep a blob and return the reference to it."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return {"digest": digest, "size": len(data)}

    def add_manifest(self, tag: str, document: dict[str, object]) -> str:
        """Keep a manifest or index under a tag, and its digest, and return the latter."""
        data = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.manifests[tag] = self.manifests[digest] = (str(document["mediaType"]), data)
        return digest

    def add_image(self, tag: str, *texts: str, architecture: str = "amd64") -> tuple[str, list[str]]:
        """Keep an image with a layer for each text, and return the digests of its manifest and its layers."""
        tars = [_tar(f"file{number}", text.encode()) for number, text in enumerate(texts)]
        layers = [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **self.add(gzip.compress(each, mtime=0))}
            for each in tars
        ]
        config = {
            "architecture": architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in tars]},
        }
        described = {"mediaType": "application/vnd.oci.image.config.v1+json", **self.add(json.dumps(config).encode())}
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
        return self.add_manifest(tag, document), [str(layer["digest"]) for layer in layers]

    def asked(self, method: str, part: str) -> list[Seen]:
        """Return the requests of this method with this in their paths."""
        return [each for each in self.seen if each.method == method and part in each.path]

    def _answer(self, seen: Seen) -> Reply:
        found = self.fault(seen)
        return self.well_behaved(seen) if found is None else found

    def well_behaved(self, seen: Seen) -> Reply:
        """Return what a registry without faults answers."""
        path = seen.path.partition("?")[0]
        name = path.rpartition("/")[2]
        if path == "/v2/":
            return Reply()
        if "/manifests/" in path and seen.method in ("GET", "HEAD") and name in self.manifests:
            media_type, data = self.manifests[name]
            return Reply(body=data, headers={"Content-Type": media_type})
        if "/manifests/" in path and seen.method == "PUT":
            self.manifests[name] = (seen.headers["content-type"], seen.body)
            return Reply(status=201)
        if "/blobs/sha256:" in path and name in self.blobs:
            return self.blob(seen, self.blobs[name])
        if "/blobs/uploads/" in path:
            return self._upload(seen, name)
        return Reply(status=404, body=b'{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}')

    def blob(self, seen: Seen, data: bytes) -> Reply:
        """Return a blob, or the part of it that is asked for."""
        asked = seen.headers.get("range", "")
        if not asked:
            return Reply(body=data)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            return Reply(status=416)
        span = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return Reply(status=206, body=data[start:], headers={"Content-Range": span})

    def _upload(self, seen: Seen, name: str) -> Reply:
        if seen.method == "POST":
            name = str(len(self.uploads))
            self.uploads[name] = b""
        else:
            self.uploads[name] += seen.body
        if seen.method == "PUT":
            digest = seen.path.rpartition("digest=")[2].replace("%3A", ":")
            self.blobs[digest] = self.uploads[name]
            return Reply(status=201)
        headers = {
            "Location": f"/v2/up/blobs/uploads/{name}?_state=a%2Bb",
            "Range": f"0-{max(len(self.uploads[name]) - 1, 0)}",
        }
        return Reply(status=204 if seen.method == "GET" else 202, headers=headers)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(self.command, self.path, headers, body)
                registry.seen.append(seen)
                reply = registry._answer(seen)
                if not reply.status:
                    if reply.stall:
                        registry.ended.wait()
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body[: reply.cut])
                self.wfile.flush()
                if reply.stall:
                    registry.ended.wait()
                if reply.cut is not None or reply.stall:
                    self.close_connection = True

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = _serve  # noqa: N815 - the library's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                pass

        return Handler


@contextmanager
def scripted_registry() -> Iterator[Scripted]:
    """Give a registry that runs during the block."""
    registry = Scripted()
    thread = threading.Thread(target=registry.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        registry.ended.set()
        registry.server.shutdown()
        thread.join()
        registry.server.server_close()


@contextmanager
def session_with(
    directory: Path, settings: Settings | None = None, proxies: Proxies | None = None
) -> Iterator[Session]:
    """Give a session whose credentials are below a directory."""
    settings = replace(settings or Settings(timeout_s=5), backoff_s=0.01)
    transport = Transport(settings, proxies or Proxies(by_scheme={}))
    try:
        yield Session(
            settings=settings,
            credentials=CredentialFile(str(directory / "docker" / "config.json")),
            exchange=Exchange(transport, settings),
        )
    finally:
        transport.close()


class Watched:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[str, Step]] = []
        self.details: dict[str, str] = {}

    def told(self, text: str) -> None:
        self.lines.append(text)

    def layer(self, digest: str, step: Step, *, done_bytes: int = 0, of_bytes: int = 0, detail: str = "") -> None:
        assert 0 <= done_bytes <= max(of_bytes, 0)
        self.steps.append((digest, step))
        self.details[digest] = detail

    def steps_of(self, digest: str) -> list[Step]:
        """Return what happened to a layer, each once in a row."""
        ours = [step for each, step in self.steps if each == digest]
        return [step for before, step in zip([None, *ours], ours, strict=False) if step != before]


def _tar(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()
