"""`lab registry`: who one is to registries, and what they have; docker's own verbs are at the top level as well."""

from __future__ import annotations

from lab.cli.verb import Verb
from lab.cli.verbs import lazy

VERBS: dict[str, Verb] = {
    "login": lazy(
        "lab.cli.registry_login",
        "login",
        text="log in to a registry, and keep the credential",
        example="lab login --username me --password-stdin registry.example:5000 < password",
    ),
    "logout": lazy(
        "lab.cli.registry_login",
        "logout",
        text="forget the credential for a registry",
        example="lab logout registry.example:5000",
    ),
    "search": lazy(
        "lab.cli.registry_search",
        "search",
        text="search a registry for images",
        example="lab search --limit 5 nginx",
    ),
}
