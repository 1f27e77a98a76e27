"""Which variables an instruction sees: ENV of the image, ARG of the stage, ARG before the first FROM; pure.

Source: https://docs.docker.com/reference/dockerfile/#arg, "Scope" and "Using ARG variables".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lab.container.image.dockerfile import Instruction
from lab.container.image.instructions import Arg, refuse
from lab.container.image.lexer import expand, expand_words
from lab.errors import SpecError

PROXIES = frozenset(
    name
    for stem in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (stem, stem.upper())
)
"""Build arguments that need no ARG, and do not count for the cache."""


def platform_arguments(platform: str) -> dict[str, str]:
    """Return the predefined arguments that tell the platform, such as "linux/amd64", that is built on and for."""
    operating_system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    values = {"PLATFORM": platform, "OS": operating_system, "ARCH": architecture, "VARIANT": variant}
    return {f"{prefix}{name}": value for prefix in ("TARGET", "BUILD") for name, value in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is visible at one point of a file.

    ``given`` are the values of ``--build-arg``, ``outer`` those that an ARG without a default falls back to,
    ``arguments`` the ARGs declared so far, ``environment`` the image's.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    outer: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """Return what a word expands with: ENV wins over ARG."""
        return {**self.arguments, **self.environment}

    @property
    def effective_arguments(self) -> dict[str, str]:
        """Return the ARGs that a command gets in its environment, those that ENV hides left out."""
        return {name: value for name, value in self.arguments.items() if name not in self.environment}

    @property
    def proxies(self) -> dict[str, str]:
        """Return the proxy settings that were given without an ARG."""
        return {name: value for name, value in self.given.items() if name in PROXIES and name not in self.arguments}

    def word(self, instruction: Instruction, text: str) -> str:
        """Return ``text`` expanded to one word.

        Raises:
            DockerfileError: it is malformed.
        """
        try:
            return expand(text, self.variables, escape=instruction.escape)
        except SpecError as error:
            refuse(instruction, str(error))

    def words(self, instruction: Instruction, text: str) -> tuple[str, ...]:
        """Return ``text`` expanded and split.

        Raises:
            DockerfileError: it is malformed.
        """
        try:
            return expand_words(text, self.variables, escape=instruction.escape)
        except SpecError as error:
            refuse(instruction, str(error))

    def text(self, instruction: Instruction, text: str) -> str:
        """Return a here-document with its variables replaced; quotes are plain characters in it.

        Raises:
            DockerfileError: a substitution is malformed.
        """
        plain = re.sub(r"['\"]", r"\\\g<0>", re.sub(r"\\(?![$\\])", r"\\\\", text))
        try:
            return expand(plain, self.variables)
        except SpecError as error:
            refuse(instruction, str(error))

    def declare(self, instruction: Instruction, arg: Arg) -> Scope:
        """Return the scope after an ARG: a value that was given counts before the default.

        Raises:
            DockerfileError: a default is malformed.
        """
        scope = self
        for raw, default in arg.items:
            name = scope.word(instruction, raw)
            value = self.given.get(name)
            if value is None:
                value = self.outer.get(name) if default is None else scope.word(instruction, default)
            if value is not None:
                scope = replace(scope, arguments={**scope.arguments, name: value})
        return scope

    def with_environment(self, lines: tuple[str, ...]) -> Scope:
        """Return the scope in which the image's environment is ``lines``, each "NAME=value"."""
        pairs = (line.partition("=") for line in lines)
        return replace(self, environment={name: value for name, _, value in pairs})
