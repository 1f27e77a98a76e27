"""/networks."""

from __future__ import annotations

from http import HTTPStatus

from lab.api import create_body, fields
from lab.api.call import Call, Routes
from lab.api.http import Answer, document, nothing
from lab.container import connections, event_actors, pruning
from lab.container.connected import members
from lab.container.network import description
from lab.container.network.networks import Networks
from lab.container.network.request import Request
from lab.errors import SpecError, StateConflict


def list_(call: Call) -> Answer:
    """List networks."""
    filters = call.query.filters(description.LISTED)
    with call.containers() as containers:
        used = {network_id for network_id, found in members(containers).items() if found}
    holds = description.conditions(filters, lambda network: network.id in used)
    found = [each for each in Networks(call.paths).all() if all(condition(each) for condition in holds)]
    return document([description.document(each) for each in found])


def inspect(call: Call) -> Answer:
    """Tell all that is known of a network."""
    network = Networks(call.paths).find(call.name)
    with call.containers() as containers:
        return document(description.document(network, members(containers).get(network.id, ())))


def create(call: Call) -> Answer:
    """Make a network."""
    body = call.connection.document()
    request = request_of(body)
    networks = Networks(call.paths)
    if fields.truth(body, "CheckDuplicate") and any(each.name == request.name for each in networks.made()):
        raise StateConflict(f"network with name {request.name} already exists")
    network = networks.create(request)
    attributes = {"name": network.name, "type": network.driver}
    event_actors.note_network(call.paths.run, "create", network.id, attributes)
    return document({"Id": network.id, "Warning": ""}, status=HTTPStatus.CREATED)


def request_of(body: fields.Document) -> Request:
    """Return what a document asks for.

    Raises:
        SpecError: a field has not the right type, or asks for what is not here.
    """
    ipam = fields.object_of(body, "IPAM")
    if fields.text(ipam, "Driver") not in ("", "default"):
        raise SpecError(f"invalid ipam driver: {fields.text(ipam, 'Driver')}")
    pools = fields.objects(ipam, "Config")

    def given(name: str) -> tuple[str, ...]:
        return tuple(text for pool in pools if (text := fields.text(pool, name)))

    return Request(
        name=fields.text(body, "Name"),
        driver=fields.text(body, "Driver") or "bridge",
        subnets=given("Subnet"),
        gateways=given("Gateway"),
        ip_ranges=given("IPRange"),
        internal=fields.truth(body, "Internal"),
        ipv6=fields.truth(body, "EnableIPv6"),
        attachable=fields.truth(body, "Attachable"),
        labels=fields.text_map(body, "Labels"),
        options=fields.text_map(body, "Options"),
    )


def remove(call: Call) -> Answer:
    """Remove a network."""
    pruning.remove_network(call.paths, Networks(call.paths).find(call.name))
    return nothing()


def prune(call: Call) -> Answer:
    """Remove networks that no container uses."""
    filters = call.query.filters(description.PRUNED)
    with call.containers() as containers:
        return document({"NetworksDeleted": pruning.prune_networks(containers, filters) or None})


def connect(call: Call) -> Answer:
    """Connect a container with a network."""
    body = call.connection.document()
    endpoint = create_body.endpoint(call.name, fields.object_of(body, "EndpointConfig"))
    with call.containers() as containers:
        connections.connect(containers, fields.text(body, "Container"), endpoint)
    return nothing(HTTPStatus.OK)


def disconnect(call: Call) -> Answer:
    """Take a container off a network."""
    body = call.connection.document()
    with call.containers() as containers:
        connections.disconnect(containers, fields.text(body, "Container"), call.name)
    return nothing(HTTPStatus.OK)


ROUTES: Routes = {
    ("GET", "/networks"): list_,
    ("POST", "/networks/create"): create,
    ("POST", "/networks/prune"): prune,
    ("GET", "/networks/{name}"): inspect,
    ("DELETE", "/networks/{name}"): remove,
    ("POST", "/networks/{name}/connect"): connect,
    ("POST", "/networks/{name}/disconnect"): disconnect,
}
