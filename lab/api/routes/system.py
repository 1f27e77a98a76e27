"""/_ping, /version, /info, /events, /system/df, /auth: what this installation is, has, and tells."""

from __future__ import annotations

import json
import os
import time
from http import HTTPStatus

from lab.api import documents, registry_auth
from lab.api.call import API_VERSION, MIN_API_VERSION, Call, Routes
from lab.api.http import JSON, Answer, ClientGone, document
from lab.api.refusals import refused, words_of
from lab.container import disk_usage, event_stream, information
from lab.container.event_stream import EventFile
from lab.container.following import is_gone
from lab.container.registry.login import log_in, registry_name
from lab.errors import RegistryError

PING_HEADERS = (
    ("Api-Version", API_VERSION),
    ("Docker-Experimental", "false"),
    ("Ostype", "linux"),
    ("Server", "lab (linux)"),
)
"""What every answer says of the server, since clients may ask anything first."""


def ping(_: Call) -> Answer:
    """Say that somebody is there; the classic builder is the one that answers."""
    headers = (
        ("Builder-Version", "1"),
        ("Cache-Control", "no-cache, no-store, must-revalidate"),
        ("Pragma", "no-cache"),
    )
    return Answer(body=b"OK", media_type="text/plain; charset=utf-8", headers=headers)


def version(_: Call) -> Answer:
    """Tell which versions these are."""
    server = information.version_document()["Server"]
    assert isinstance(server, dict), "it is an object"
    components = [
        {**each, "Details": {**each["Details"], "ApiVersion": API_VERSION, "MinAPIVersion": MIN_API_VERSION}}
        for each in server["Components"]
    ]
    return document(
        {
            **server,
            "Components": components,
            "ApiVersion": API_VERSION,
            "MinAPIVersion": MIN_API_VERSION,
            "GitCommit": "",
            "GoVersion": "",
            "BuildTime": "",
        }
    )


def info(call: Call) -> Answer:
    """Tell what this installation has."""
    with call.containers() as containers:
        found = dict(information.info_document(containers))
    del found["ClientInfo"]  # which clients know of themselves
    return document(
        {
            **found,
            "SystemStatus": None,
            "RegistryConfig": {
                "AllowNondistributableArtifactsCIDRs": [],
                "AllowNondistributableArtifactsHostnames": [],
                "InsecureRegistryCIDRs": ["127.0.0.0/8"],
                "IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}},
                "Mirrors": [],
            },
            "NFd": len(os.listdir("/proc/self/fd")),
        }
    )


def events(call: Call) -> None:
    """Send what happens, and what has happened since a time, until another one or until the client goes.

    Raises:
        ClientGone: it has.
    """
    since, until = call.query.instant_ns("since"), call.query.instant_ns("until")
    holds = event_stream.conditions(call.query.filters(event_stream.FILTERS))
    with EventFile(call.paths.run, only_new=since is None) as file:
        call.connection.begin(JSON)
        for event in file.follow(until, call.connection.fileno()):
            if (since is None or event.time_ns >= since) and all(condition(event) for condition in holds):
                call.connection.write(json.dumps(event.document(), separators=(",", ":")).encode() + b"\n")
        if (until is None or until > time.time_ns()) and is_gone(call.connection.fileno()):
            raise ClientGone
        call.connection.end()


def df(call: Call) -> Answer:
    """Tell what takes how much of the disk."""
    with call.containers() as containers:
        return document(documents.disk_usage(containers, disk_usage.measure(containers)))


def auth(call: Call) -> Answer:
    """Try a credential at a registry; it is the client's to keep."""
    body = call.connection.document()
    given, server = registry_auth.credential(body), str(body.get("serveraddress") or "")
    with registry_auth.given_session(call.paths, {"": given}) as registries:
        try:
            kept = log_in(registries, registry_name(server), given)
        except RegistryError as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                raise
            return refused(HTTPStatus.UNAUTHORIZED, words_of(error))  # anywhere else, clients would ask for a password
    return document({"Status": "Login Succeeded", "IdentityToken": kept.identity_token}, status=HTTPStatus.OK)


ROUTES: Routes = {
    ("GET", "/_ping"): ping,
    ("GET", "/version"): version,
    ("GET", "/info"): info,
    ("GET", "/events"): events,
    ("GET", "/system/df"): df,
    ("POST", "/auth"): auth,
}
