"""What other servers have, and this one never will: swarms, their nodes, services, secrets and configs, and plugins."""

from __future__ import annotations

from http import HTTPStatus

from lab.api.call import Call, Routes
from lab.api.http import Answer, document
from lab.api.refusals import refused

_NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm'
    " and try again."
)
_METHODS = ("GET", "POST", "DELETE")
_SWARMS = ("swarm", "nodes", "services", "tasks", "secrets", "configs")


def not_a_manager(_: Call) -> Answer:
    """Say that this is no manager of a swarm."""
    return refused(HTTPStatus.SERVICE_UNAVAILABLE, _NO_MANAGER)


def no_plugins(_: Call) -> Answer:
    """List no plugins."""
    return document([])


ROUTES: Routes = {
    **{(method, f"/{noun}"): not_a_manager for noun in _SWARMS for method in _METHODS},
    **{(method, f"/{noun}/{{rest*}}"): not_a_manager for noun in _SWARMS for method in _METHODS},
    ("GET", "/plugins"): no_plugins,
}
