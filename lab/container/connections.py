"""A container's joining and leaving a network, while it runs or not.

What a user asks for is kept in the container's state; of one that runs, the links, routes, names and ports follow at
once, and a kill at any instant leaves at worst a link or a name that goes with the container.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.container import arrival, event_actors, linking, naming, network_actors, spawner_start, starting
from lab.container.containers import Container, Containers
from lab.container.network import departure, dns, endpoints, fastpath, ipam, namespace, publish
from lab.container.network.model import Attachment, Endpoint, Network
from lab.container.network.networks import Networks
from lab.container.spec.runtime import JOINS, Status
from lab.container.state import ContainerState
from lab.errors import KernelError, NoSuchNetwork, StateConflict
from lab.linux import rtnetlink, sockets

_SHARING = "container sharing network namespace with another container or host cannot be connected to any other network"
_PRIVATE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"


def connect(containers: Containers, reference: str, endpoint: Endpoint) -> None:
    """Connect a container with one more network.

    Raises:
        NoSuchContainer, NoSuchNetwork: there is none.
        StateConflict: it is connected already, or can have no network of its own.
        ContainerError: an address is taken, or cannot be asked for on that network.
        KernelError: the kernel refused.
    """
    network = Networks(containers.paths).find(endpoint.network)
    container = containers.get(reference)
    _check(container, network)
    with containers.engine.directory.locked(container.id):
        state = containers.engine.state(container.id)
        known = state.known_endpoints
        if any(_is_on(each, network) for each in known):
            raise StateConflict(f"endpoint with name {container.name} already exists in network {network.name}")
        wanted = replace(endpoint, network=network.name)
        is_running = state.status == Status.RUNNING
        if is_running:
            wanted = _join(containers, state, wanted)
        _save(containers, container, state, (*known, wanted))
    if is_running:  # else it is told when it starts
        _note(containers, "connect", network, container.id)
        spawner_start.have_it_look(containers.paths)


def disconnect(containers: Containers, reference: str, network_name: str) -> None:
    """Take a container off a network.

    Raises:
        NoSuchContainer, NoSuchNetwork: there is none.
        StateConflict: it is not connected with it.
        KernelError: the kernel refused.
    """
    network = Networks(containers.paths).find(network_name)
    container = containers.get(reference)
    with containers.engine.directory.locked(container.id):
        state = containers.engine.state(container.id)
        known = state.known_endpoints
        left = next((each for each in known if _is_on(each, network)), None)
        if left is None:
            raise StateConflict(f"container {container.id} is not connected to network {network.name}")
        if left.attachment is not None and state.status == Status.RUNNING:
            _part(state, left.attachment)
        _save(containers, container, state, tuple(each for each in known if each is not left))
        if left.attachment is not None:
            ipam.release(containers.paths.networks, left.attachment)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(dns.hosts_file(containers.paths, network.id, container.id))
    _note(containers, "disconnect", network, container.id)


def _is_on(endpoint: Endpoint, network: Network) -> bool:
    return endpoint.network in (network.name, network.id) or (
        bool(endpoint.network_id) and endpoint.network_id == network.id
    )


def _check(container: Container, network: Network) -> None:
    mode = container.record.options.network
    if mode == "host" or mode.startswith(JOINS):
        raise StateConflict(_SHARING)
    if mode == "none":
        raise StateConflict(_PRIVATE)
    if network.driver != "bridge":
        raise StateConflict("container cannot be disconnected from host network or connected to host network")


def _join(containers: Containers, state: ContainerState, wanted: Endpoint) -> Endpoint:
    """Give a running container one more link, and return its endpoint with its place; nothing is left if it fails."""
    joined = endpoints.attach(
        containers.paths,
        state.id,
        wanted,
        endpoints.next_link(state.attachments),
        containers.engine.ensure_bridge,
    )
    assert joined.attachment is not None
    silent = replace(joined.attachment, gateway="", gateway6="")  # whether it is the way out is decided for all of them
    try:
        with _namespace(state) as descriptor, _refusals(joined.attachment.host_link):
            fastpath.host_side(silent, descriptor)
            with namespace.open_socket_in(descriptor, state.id) as channel:
                fastpath.inner_side(silent, channel)
    except BaseException:
        ipam.release(containers.paths.networks, joined.attachment)
        raise
    return joined


def _part(state: ContainerState, attachment: Attachment) -> None:
    link = attachment.inner_link
    body = rtnetlink.ifinfomsg() + rtnetlink.attribute(rtnetlink.IFLA_IFNAME, rtnetlink.text(link))
    flags = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_ACK
    with _inside(state, link) as channel:  # the kernel takes 30 ms: it is no start and no stop that waits for it
        rtnetlink.transact(channel, (rtnetlink.Request(rtnetlink.RTM_DELLINK, flags, body, f"link {link}"),))


def _save(containers: Containers, container: Container, state: ContainerState, known: Sequence[Endpoint]) -> None:
    """Keep what a container is connected with, and let all that leads to it, and out of it, follow."""
    chosen = endpoints.with_one_way_out(_reopened(containers, known))
    changed = replace(state, endpoints=chosen, attachment=None, bridged=bool(chosen))
    containers.engine.directory.save(changed)
    containers.engine.runtime.forget_plan(state.id)
    network_actors.note(containers.paths, changed)
    if state.status != Status.RUNNING:
        return
    _route(changed)
    options = container.record.options
    named = naming.of(containers.paths, changed, container.name, options)
    arrival.settle_down(
        containers.engine, changed, named, publish.recorded(state.bundle), done=departure.rules(state.bundle)
    )
    nameserver = "" if named.server is None else named.server.address
    starting.write_names(changed, options, nameserver, links=linking.hosts(containers.engine, changed))


def _reopened(containers: Containers, known: Sequence[Endpoint]) -> Iterator[Endpoint]:
    """Give the endpoints with the ways out that their networks offer, of which one is chosen anew."""
    networks = Networks(containers.paths)
    for each in known:
        attachment = each.attachment
        if attachment is not None:
            bridge = None
            with contextlib.suppress(NoSuchNetwork):
                bridge = networks.find(each.network_id or each.network).bridge
            if bridge is not None and not bridge.internal:
                attachment = replace(attachment, gateway=bridge.gateway, gateway6=bridge.gateway6)
        yield replace(each, attachment=attachment)


def _route(state: ContainerState) -> None:
    """Let a running container's way out be the one that has been chosen."""
    chosen = endpoints.way_out(state.attachments)
    if chosen is None:
        return
    with _inside(state, chosen.inner_link) as channel:
        index = rtnetlink.link_index(channel, chosen.inner_link)
        gateways = filter(None, (chosen.gateway, chosen.gateway6))
        rtnetlink.transact(channel, tuple(fastpath.default_route(gateway, index) for gateway in gateways))


@contextlib.contextmanager
def _inside(state: ContainerState, link: str) -> Iterator[sockets.Socket]:
    with _namespace(state) as descriptor, _refusals(link), namespace.open_socket_in(descriptor, state.id) as channel:
        yield channel


@contextlib.contextmanager
def _namespace(state: ContainerState) -> Iterator[int]:
    try:
        descriptor = os.open(f"/proc/{state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StateConflict(f"container {state.id} is not running") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _refusals(link: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KernelError("change link", link, error.strerror or str(error), hint="lab system check") from error


def _note(containers: Containers, action: str, network: Network, container_id: str) -> None:
    attributes = {"container": container_id, "name": network.name, "type": network.driver}
    event_actors.note_network(containers.paths.run, action, network.id, attributes)
