"""All that is known of a container, looked up and told: ``inspection.py`` has the words."""

from __future__ import annotations

from lab.container import inspection, listing
from lab.container.containers import Container, Containers
from lab.linux.cgroup import usage


def document(containers: Containers, name: str, *, sized: bool) -> dict[str, object]:
    """Return docker's JSON object for a container; ``sized`` looks at all its files.

    Raises:
        NoSuchContainer: there is none.
    """
    container = containers.get(name)
    own, whole = listing.sizes(container, containers) if sized else (None, None)
    facts = inspection.Facts(oom_killed=_ran_out_of_memory(containers, container), layer_bytes=own, root_bytes=whole)
    return inspection.document(container, containers.engine.directory.load_spec(container.id), facts)


def _ran_out_of_memory(containers: Containers, container: Container) -> bool:
    """Return whether the kernel killed for memory in its last run, whose cgroup stays until it is started again."""
    memory = containers.engine.runtime.layout.hierarchy("memory")
    return memory is not None and bool(usage.oom_kills(memory.directory(container.state.cgroup)))
