"""Dockerfile instructions that change an image's configuration alone, as ``commit`` and ``import`` take them; pure."""

from __future__ import annotations

from collections.abc import Iterable

from lab.container.image.build_scope import Scope
from lab.container.image.build_steps import Before, apply
from lab.container.image.dockerfile import Keyword, parse_lines
from lab.container.image.instructions import understand
from lab.container.spec.image import ExecutionConfig
from lab.errors import DockerfileError

_ALLOWED = (
    Keyword.CMD,
    Keyword.ENTRYPOINT,
    Keyword.ENV,
    Keyword.EXPOSE,
    Keyword.HEALTHCHECK,
    Keyword.LABEL,
    Keyword.ONBUILD,
    Keyword.STOPSIGNAL,
    Keyword.USER,
    Keyword.VOLUME,
    Keyword.WORKDIR,
)
_SOURCE = "--change"


def changed(config: ExecutionConfig, changes: Iterable[str]) -> ExecutionConfig:
    """Return ``config`` after the instructions, one or more lines in each text.

    Raises:
        DockerfileError: one is malformed, or does more than to change the configuration.
    """
    for text in changes:
        for instruction in parse_lines(text, path=_SOURCE, escape="\\"):
            if instruction.keyword not in _ALLOWED:
                raise DockerfileError(
                    f"{instruction.keyword.lower()} is not a valid change command",
                    hint=f"one of: {', '.join(_ALLOWED)}",
                )
            scope = Scope().with_environment(config.env)
            config = apply(understand(instruction), Before(config=config, scope=scope)).config
    return config
