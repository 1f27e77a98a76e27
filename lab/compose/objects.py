"""Networks, volumes, configs and secrets of the tree, which ``schema`` has made uniform, become those of the model."""

from __future__ import annotations

from lab.compose.model import DEFAULT_NETWORK, AddressPool, FileObject, Network, Volume
from lab.compose.tree import Node


def networks(tree: Node, project: str, *, has_default: bool) -> dict[str, Network]:
    """Return the networks of a project; the default one, if any service is on it, need not be declared."""
    found = {key: _network(key, node, project) for key, node in tree.at("networks").entries().items()}
    if has_default and DEFAULT_NETWORK not in found:
        found[DEFAULT_NETWORK] = Network(key=DEFAULT_NETWORK, name=f"{project}_{DEFAULT_NETWORK}")
    return found


def volumes(tree: Node, project: str) -> dict[str, Volume]:
    """Return the volumes of a project."""
    return {
        key: Volume(
            key=key,
            name=_name(key, node, project),
            external=_is_external(node),
            driver=node.text("driver"),
            driver_opts=node.pairs("driver_opts"),
            labels=node.pairs("labels"),
        )
        for key, node in tree.at("volumes").entries().items()
    }


def file_objects(tree: Node, kind: str, project: str) -> dict[str, FileObject]:
    """Return the "configs" or the "secrets" of a project."""
    return {
        key: FileObject(
            key=key,
            name=_name(key, node, project),
            file=node.path("file"),
            environment=node.text("environment"),
            content=node.text("content") if node.get("content") else None,
            external=_is_external(node),
            labels=node.pairs("labels"),
        )
        for key, node in tree.at(kind).entries().items()
    }


def _network(key: str, node: Node, project: str) -> Network:
    ipam = node.at("ipam")
    return Network(
        key=key,
        name=_name(key, node, project),
        external=_is_external(node),
        driver=node.text("driver"),
        driver_opts=node.pairs("driver_opts"),
        ipam_driver=ipam.text("driver"),
        ipam_pools=tuple(_pool(each) for each in ipam.at("config").items()),
        ipam_options=ipam.pairs("options"),
        internal=node.truth("internal"),
        attachable=node.truth("attachable"),
        enable_ipv4=node.truth("enable_ipv4") if node.get("enable_ipv4") else None,
        enable_ipv6=node.truth("enable_ipv6") if node.get("enable_ipv6") else None,
        labels=node.pairs("labels"),
    )


def _pool(node: Node) -> AddressPool:
    return AddressPool(
        subnet=node.text("subnet"),
        ip_range=node.text("ip_range"),
        gateway=node.text("gateway"),
        aux_addresses=node.pairs("aux_addresses"),
    )


def _is_external(node: Node) -> bool:
    return "external" in node.entries() and node.at("external").value is not False


def _name(key: str, node: Node, project: str) -> str:
    """Return an object's name on the host: said in the new way or the old one, else made of its key."""
    said = node.text("name") or node.at("external").text("name")
    return said or (key if _is_external(node) else f"{project}_{key}")
