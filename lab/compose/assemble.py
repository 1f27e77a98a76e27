"""Compose files to one tree: variables replaced, checked, extended, with what they include, and merged.

Source: https://github.com/compose-spec/compose-spec/blob/main/spec.md, "Include", "Extends", "Merge".
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lab.compose import dotenv, schema, yaml_text
from lab.compose.interpolation import Variables, interpolate_tree
from lab.compose.merge import merge, settle
from lab.compose.shapes import did_you_mean
from lab.compose.tree import Node, Place, below
from lab.errors import SpecError

STDIN = "-"
_REMOTE = re.compile(r"\b(https?|oci|git|ssh):/|\bgit@")
OBJECTS = ("services", "networks", "volumes", "configs", "secrets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a file is read, and with which variables: relative paths in it start from ``directory``.

    ``chain`` are the files that led here, by including.
    """

    directory: str
    variables: Variables
    chain: tuple[str, ...] = ()


def read(path: str, directory: str) -> tuple[Node, ...]:
    """Return the documents of a file as trees; "-" is standard input.

    Raises:
        SpecError: it cannot be read, or is no YAML.
    """
    text = sys.stdin.read() if path == STDIN else read_text(path)
    return yaml_text.parse(text, file=path, directory=directory)


def read_text(path: str) -> str:
    """Return the text of a file that a user has named.

    Raises:
        SpecError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", path=path) from None
    except UnicodeDecodeError:
        raise SpecError("is not a text in UTF-8", path=path) from None


def assemble(documents: Iterable[Node], source: Source) -> Node:
    """Return documents, each over the one before, as one tree.

    Raises:
        SpecError: one is wrong.
    """
    merged: Node | None = None
    for document in documents:
        tree = _complete(document, source)
        merged = settle(tree) if merged is None else merge(merged, tree)
    if merged is None:
        raise SpecError("empty compose file", path=source.chain[-1] if source.chain else "")
    return merged


def _complete(document: Node, source: Source) -> Node:
    """Return a document on its own: with what its services extend, and what it includes."""
    tree = _checked(document, source.variables)
    services = tree.get("services")
    if services is not None:
        extended = _Extending(source.variables).all_of(services)
        tree = tree.having({**tree.entries(), "services": extended})
    return _with_included(tree, source)


def _checked(document: Node, variables: Variables) -> Node:
    mapping = document.having(yaml_text.mapping_of(document))
    return schema.FILE.read(interpolate_tree(mapping, variables), "")


def _with_included(tree: Node, source: Source) -> Node:
    entries = {key: node for key, node in tree.entries().items() if key != "include"}
    for include in tree.at("include").items():
        included = _included(include, source)
        for kind in OBJECTS:
            if kind in included.entries():
                entries[kind] = _united(kind, included.entries()[kind], entries.get(kind))
    return tree.having(entries)


def _united(kind: str, included: Node, own: Node | None) -> Node:
    """Return the objects of one kind of an included file, and one's own; the same name twice is a mistake."""
    if own is None:
        return included
    for name in included.entries().keys() & own.entries().keys():
        ours, other = own.entries()[name], included.entries()[name]
        if ours != other:
            raise ours.wrong(
                below(kind, name),
                f"is also in {other.place.file}, which is included",
                hint="change what is included in a further file (-f), or by 'extends'",
            )
    return own.having({**included.entries(), **own.entries()})


def _included(include: Node, source: Source) -> Node:
    paths = [node.place.join(node.text()) for node in include.entries()["path"].items()]
    for path in paths:
        if path in source.chain:
            circle = " -> ".join((*source.chain[source.chain.index(path) :], path))
            raise include.wrong("include", f"leads round: {circle}")
    directory = _directory_of_included(include, paths)
    inner = Source(
        directory=directory,
        variables=_variables_of_included(include, directory, source.variables),
        chain=(*source.chain, *paths),
    )
    return assemble((document for path in paths for document in _read_from(include, path, directory)), inner)


def _directory_of_included(include: Node, paths: Sequence[str]) -> str:
    given = include.get("project_directory")
    return os.path.dirname(paths[0]) if given is None else given.place.join(given.text())


def _variables_of_included(include: Node, directory: str, outer: Variables) -> Variables:
    given = include.get("env_file")
    files = [node.place.join(node.text()) for node in given.items()] if given is not None else []
    default = os.path.join(directory, ".env")
    if given is None and os.path.isfile(default):
        files = [default]
    return Variables(values=environment_of(files, outer.values), missing=outer.missing)


def environment_of(files: Iterable[str], outside: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of files, a later one over an earlier one, and over all of them those that are ``outside``.

    Raises:
        SpecError: a file cannot be read, or is none of variables.
    """
    found: dict[str, str] = {}
    for path in files:
        variables = dotenv.parse(read_text(path), file=path, outside={**found, **outside})
        found.update({name: value for name, value in variables.items() if value is not None})
    return {**found, **outside}


def _read_from(node: Node, path: str, directory: str) -> tuple[Node, ...]:
    """Return the documents of a file that another one names in ``node``."""
    try:
        return read(path, directory)
    except SpecError as error:
        if error.line is not None:
            raise
        hint = "files are read from this host only" if _REMOTE.search(path) else ""
        raise node.wrong("", str(error), hint=hint) from None


@dataclass(frozen=True, slots=True)
class _Extending:
    """Puts services over those that they extend; what is extended from other files is read once."""

    variables: Variables
    files: dict[str, Node] = field(default_factory=dict)

    def all_of(self, services: Node) -> Node:
        return services.having({name: self._extended(name, services, ()) for name in services.entries()})

    def _extended(self, name: str, services: Node, chain: tuple[tuple[str, str], ...]) -> Node:
        """Return a service of one file with all that it extends; ``chain`` are those that led here."""
        service = services.entries()[name]
        extends = service.get("extends")
        if extends is None:
            return service
        here = (service.place.file, name)
        if here in chain:
            circle = " -> ".join(each for _, each in (*chain[chain.index(here) :], here))
            raise extends.wrong(f"services.{name}.extends", f"leads round: {circle}")
        base = self._base(extends, name, services, (*chain, here))
        own = service.having({key: node for key, node in service.entries().items() if key != "extends"})
        return merge(settle(base, ("services", name)), own, ("services", name))

    def _base(self, extends: Node, name: str, services: Node, chain: tuple[tuple[str, str], ...]) -> Node:
        file = extends.get("file")
        others = services if file is None else self._services(extends, file.place.join(file.text()))
        wanted = extends.text("service")
        if wanted not in others.entries():
            where = f" in {file.text()}" if file is not None else ""
            hint = did_you_mean(wanted, others.entries())
            raise extends.wrong(f"services.{name}.extends", f"there is no service '{wanted}'{where}", hint=hint)
        return self._extended(wanted, others, chain)

    def _services(self, extends: Node, path: str) -> Node:
        if path not in self.files:
            nothing = Node(value={}, place=Place(file=path, line=1, directory=os.path.dirname(path)))
            documents = _read_from(extends, path, os.path.dirname(path))
            trees = [_checked(document, self.variables) for document in documents]
            merged = nothing
            for tree in trees:
                merged = merge(merged, tree)
            self.files[path] = merged.get("services") or nothing
        return self.files[path]
