"""/build: an image from a Dockerfile and its context, as docker's classic builder makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, cast

from lab.api import fields, registry_auth
from lab.api.call import Call, Routes
from lab.api.http import Answer, BodyStream, document
from lab.api.json_stream import BuildLines, JsonStream, TransferLines
from lab.api.refusals import words_of
from lab.container.engine import Engine
from lab.container.etc_files import extra_host
from lab.container.image.build import BuildRequest
from lab.container.image.build import build as build_image
from lab.container.image.build_cache import BuildCache
from lab.container.image.build_context import STDIN, ContextSource
from lab.container.image.build_run import Surroundings, network_of
from lab.container.image.reference import parse_reference
from lab.container.image.store import ImageStore
from lab.container.options.limits import ulimits
from lab.container.registry.transfers import fetch_noted
from lab.errors import LabError, SpecError

_EPOCH = "SOURCE_DATE_EPOCH"
_SHORT = 12
_BUILDKIT = "2"


def build(call: Call) -> None:
    """Build an image.

    Raises:
        ClientGone: the client has gone.
    """
    quiet = call.query.truth("q")
    stream = JsonStream(call.connection, quiet=quiet)
    try:
        request = request_of(call, stream)
        with Engine(call.paths) as engine:
            image = build_image(call.paths, engine, request, BuildLines(stream))
    except LabError as error:
        stream.fail(error, words_of(error))
        return
    if quiet:
        stream.write({"stream": f"{image.config_digest}\n"})
    else:
        stream.write({"aux": {"ID": image.config_digest}})
        stream.write({"stream": f"Successfully built {image.config_digest.removeprefix('sha256:')[:_SHORT]}\n"})
        for name in request.names:
            stream.write({"stream": f"Successfully tagged {name}\n"})
    stream.end()


def request_of(call: Call, stream: JsonStream) -> BuildRequest:
    """Return what to build, and how.

    Raises:
        SpecError: a parameter's value is malformed, or asks for what is not here.
    """
    if call.query.text("version") == _BUILDKIT:
        raise SpecError("BuildKit is not supported by this server: build with DOCKER_BUILDKIT=0")
    build_args = _build_args(call)
    epoch = build_args.get(_EPOCH, "")
    if epoch and not epoch.isdecimal():
        raise SpecError(f"{_EPOCH} is not a number of seconds: {epoch!r}")
    body = cast(BinaryIO, BodyStream(call.connection))  # the engine only reads it
    return BuildRequest(
        context=ContextSource(
            location=call.query.text("remote") or STDIN, dockerfile=call.query.text("dockerfile"), stdin=body
        ),
        names=tuple(parse_reference(name).familiar for name in call.query.texts("t") if name),
        target=call.query.text("target"),
        platform=call.query.text("platform"),
        build_args=build_args,
        labels=_map(call, "labels"),
        use_cache=not call.query.truth("nocache"),
        epoch_s=int(epoch) if epoch else None,
        surroundings=_surroundings(call),
        fetch=_fetcher(call, stream),
        fetches_always=call.query.truth("pull"),
    )


def _build_args(call: Call) -> dict[str, str]:
    found = call.query.document("buildargs") or {}
    if not isinstance(found, dict):
        raise SpecError("invalid buildargs: an object is expected")
    return {name: str(value) for name, value in found.items() if value is not None}


def _map(call: Call, name: str) -> Mapping[str, str]:
    return fields.text_map({name: call.query.document(name)}, name)


def _surroundings(call: Call) -> Surroundings:
    hosts = tuple(
        extra_host(text, gateway="") for given in call.query.texts("extrahosts") for text in given.split(",") if text
    )
    limits = tuple(
        f"{fields.text(each, 'Name')}={fields.number(each, 'Soft')}:{fields.number(each, 'Hard')}"
        for each in fields.objects({"ulimits": call.query.document("ulimits")}, "ulimits")
    )
    return Surroundings(
        network=network_of(call.query.text("networkmode") or "default"),
        hosts=hosts,
        memory_bytes=call.query.number("memory") or None,
        memory_swap_bytes=call.query.number("memswap") or None,
        shm_bytes=call.query.number("shmsize") or 64 << 20,
        rlimits=ulimits(limits),
    )


def _fetcher(call: Call, stream: JsonStream) -> Callable[[str], None]:
    """Return what has a base image from its registry, with the credentials of the request."""
    given = registry_auth.of_config_header(call.headers.get("x-registry-config", ""))

    def fetch(name: str) -> None:
        with registry_auth.given_session(call.paths, given) as registries:
            store, reference = ImageStore.open(call.paths), parse_reference(name)
            fetch_noted(call.paths, store, registries, reference, "", TransferLines(stream))

    return fetch


def prune(call: Call) -> Answer:
    """Remove what builds have kept."""
    freed = BuildCache(call.paths.builds).prune()
    return document({"CachesDeleted": None, "SpaceReclaimed": freed})


ROUTES: Routes = {
    ("POST", "/build"): build,
    ("POST", "/build/prune"): prune,
}
