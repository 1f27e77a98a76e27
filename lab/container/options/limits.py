"""--ulimit, --sysctl, --oom-score-adj, --shm-size: numbers of one process or of the container's namespaces.

Limits that cgroups enforce are in ``container/resources.py``.
Source: docs.docker.com/reference/cli/docker/container/run, "--ulimit", "--sysctl".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lab.container.options.flags import argument
from lab.container.spec.runtime import Rlimit
from lab.errors import SpecError

_RLIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
)  # fmt: skip
_HIGHEST = 2**63 - 1
_IPC = frozenset(
    (
        "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
        "kernel.shmmni", "kernel.shm_rmid_forced",
    )
)  # fmt: skip
_IPC_PREFIX = "fs.mqueue."
_NETWORK_PREFIX = "net."
_LOWEST_OOM_SCORE, _HIGHEST_OOM_SCORE = -1000, 1000


def ulimit(text: str) -> Rlimit:
    """Return "NAME=SOFT[:HARD]" as a limit; -1 is no limit.

    Raises:
        SpecError: it is not one.
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise SpecError(f"invalid ulimit argument: {text}")
    if name.lower() not in _RLIMITS:
        raise SpecError(f"invalid ulimit type: {name}", hint=f"one of {', '.join(_RLIMITS)}")
    soft, *rest = (_limit(part) for part in value.split(":"))
    if len(rest) > 1:
        raise SpecError(f"too many limit value arguments - {value}, can only have up to two, `soft[:hard]`")
    hard = rest[0] if rest else soft
    if hard != -1 and (soft == -1 or soft > hard):
        shown = f"hard: {hard}, soft: unlimited" if soft == -1 else f"{soft} > {hard}"
        raise SpecError(f"ulimit soft limit must be less than or equal to hard limit: {shown}")
    return Rlimit(type=f"RLIMIT_{name.upper()}", soft=soft, hard=hard)


def ulimits(texts: Iterable[str]) -> tuple[Rlimit, ...]:
    """Return all --ulimit together: the last one of a name counts.

    Raises:
        SpecError: one of them is none.
    """
    found: dict[str, Rlimit] = {}
    for text in texts:
        with argument("--ulimit", text):
            limit = ulimit(text)
        found[limit.type] = limit
    return tuple(found.values())


def _limit(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isdecimal() and digits.isascii()):
        raise SpecError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    number = int(text)
    if number < -1 or number > _HIGHEST:
        raise SpecError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return number


def sysctls(texts: Iterable[str], *, own_ipc: bool, own_network: bool) -> Mapping[str, str]:
    """Return all --sysctl "NAME=VALUE" by name; only those of namespaces that the container has of its own.

    Raises:
        SpecError: a parameter belongs to the whole machine, or to a namespace of the host.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        dotted = _dotted(name)
        with argument("--sysctl", text):
            if not separator or not _is_namespaced(dotted):
                raise SpecError(
                    f"sysctl '{text}' is not allowed", hint="it is not separate per container; set it on the host"
                )
        if dotted.startswith(_NETWORK_PREFIX) and not own_network:
            raise SpecError(f'sysctl "{name}" not allowed in host network namespace')
        if (dotted in _IPC or dotted.startswith(_IPC_PREFIX)) and not own_ipc:
            raise SpecError(f'sysctl "{name}" is not allowed in the hosts ipc namespace')
        found[name] = value
    return found


def _dotted(name: str) -> str:
    first = next((letter for letter in name if letter in "./"), ".")
    return name if first == "." else name.replace(".", "\0").replace("/", ".")


def _is_namespaced(dotted: str) -> bool:
    # ".." would leave the directory that the prefix stands for
    inside = dotted in _IPC or dotted.startswith((_IPC_PREFIX, _NETWORK_PREFIX))
    return inside and "/" not in dotted and "" not in dotted.split(".")


def oom_score_adj(value: int) -> int:
    """Return a value of --oom-score-adj.

    Raises:
        SpecError: it is not between -1000 and 1000.
    """
    if not _LOWEST_OOM_SCORE <= value <= _HIGHEST_OOM_SCORE:
        raise SpecError(
            f"Invalid value {value}, range for oom score adj is [{_LOWEST_OOM_SCORE}, {_HIGHEST_OOM_SCORE}]"
        )
    return value
