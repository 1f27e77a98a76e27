"""A suite file (TOML) becomes a ``Suite``; every mistake is told with file and line.

The form::

    title = "Quick comparison"            # one line for tables
    question = "What does … cost?"        # what the report answers
    arms = ["process", "container"]       # by the names of `lab bench list`
    baseline = "process"

    [blocks]
    warmup = 1                            # blocks that are run, kept, and not estimated from
    min = 5                               # never fewer, unless the budget ends
    max = 30
    budget = "3m30s"
    half_width = 0.05                     # stop when every primary ratio is known to ± this

    [limits]                              # of every workload that says nothing else
    vcpus = 1
    memory = "256MiB"

    [[arm]]                               # only where a target's own options are turned
    name = "vm-virtiofs"                  # what ``arms`` calls it
    use = "vm-tcg"                        # a target of `lab bench list`
    options = { root = "virtiofs" }

    [[workload]]
    use = "startup"                       # a workload of `lab bench list`
    name = "startup"                      # only where one workload is used twice
    image = "busybox"
    arms = ["process"]                    # only where not all arms are meant
    parameters = { memory = true }
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeVar, cast  # Any: a TOML value has no narrower type before it is checked

from lab.bench.model import ArmDefinition, Suite, WorkloadUse
from lab.bench.workloads.catalogue import WORKLOADS
from lab.bench.workloads.protocol import ParameterValue, defaults
from lab.errors import SpecError
from lab.target import registry
from lab.units import parse_bytes, parse_duration_ns

T = TypeVar("T")
ChoiceValue = TypeVar("ChoiceValue", covariant=True)

SHIPPED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "suites")

_TOP = ("title", "question", "arms", "baseline", "blocks", "limits", "arm", "workload")
_ARM = ("name", "use", "options")
_BLOCKS = ("warmup", "min", "max", "budget", "half_width")
_LIMITS = ("vcpus", "memory")
_USE = ("use", "name", "image", "arms", "vcpus", "memory", "parameters")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


def shipped() -> tuple[str, ...]:
    """Return the names of the suites that come with the lab."""
    return tuple(sorted(name[:-5] for name in os.listdir(SHIPPED) if name.endswith(".toml")))


def find(name: str) -> str:
    """Return the path of a suite: a shipped one by name, or any file by its path.

    Raises:
        SpecError: there is none.
    """
    if name.endswith(".toml") or os.sep in name:
        return name
    if name not in shipped():
        raise SpecError(f"unknown suite '{name}'{_did_you_mean(name, shipped())}", hint="lab bench list")
    return os.path.join(SHIPPED, f"{name}.toml")


def load(path: str, known_arms: Sequence[str]) -> Suite:
    """Read and check a suite file.

    Raises:
        SpecError: it cannot be read, or says something that we do not understand.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise SpecError(f"cannot read the suite: {error.strerror}", path=path, hint="lab bench list") from error
    return parse(data, path=path, known_arms=known_arms)


def parse(data: bytes, *, path: str, known_arms: Sequence[str]) -> Suite:
    """Return the suite that the bytes of a file mean; its name is the file's.

    Raises:
        SpecError: with the line where known.
    """
    try:
        text = data.decode()
        table = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise SpecError("the file is not UTF-8", path=path) from error
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(error, path, text.count("\n") + 1) from error
    return _Reader(text=text, path=path, known_arms=known_arms).suite(table, hashlib.sha256(data).hexdigest())


def select_arms(suite_arms: Sequence[str], wanted: Iterable[str], known_arms: Sequence[str]) -> tuple[str, ...]:
    """Return the arms that ``--targets`` asks for, in the order asked.

    Raises:
        SpecError: one is unknown; arms that the suite does not list are allowed.
    """
    chosen = tuple(dict.fromkeys(wanted))
    for arm in chosen:
        if arm not in known_arms:
            near = _did_you_mean(arm, known_arms)
            raise SpecError(f"unknown target '{arm}'{near}", hint=f"one or more of: {', '.join(known_arms)}")
    return chosen or tuple(suite_arms)


class Choice(Protocol[ChoiceValue]):
    """What parameters of workloads and options of targets have in common."""

    @property
    def name(self) -> str:
        """What the file calls it."""
        ...

    @property
    def default(self) -> ChoiceValue:
        """Its value when the file says nothing, which is of its type."""
        ...

    @property
    def choices(self) -> tuple[ChoiceValue, ...]:
        """The values that it can have; any of its type if there are none."""
        ...


class _Reader:
    """Checks a parsed table; keeps the text, to say in which line a mistake is."""

    def __init__(self, *, text: str, path: str, known_arms: Sequence[str]) -> None:
        self._lines = text.splitlines()
        self._path = path
        self._known_arms = known_arms
        # lines among which keys are looked for: those of the n-th [[workload]] lie between its heading and the next
        self._after, self._before = 0, len(self._lines)

    def suite(self, table: Mapping[str, Any], digest: str) -> Suite:
        self._check_keys(table, _TOP, "key")
        definitions = self._definitions(table)
        self._known_arms = (*self._known_arms, *(definition.name for definition in definitions))
        arms = self._arms(table, "arms")
        if not arms:
            self._fail("arms", "no arms: name at least one target")
        blocks = self._table(table, "blocks", _BLOCKS)
        limits = self._table(table, "limits", _LIMITS)
        minimum = self._get(blocks, "min", int, 5)
        maximum = self._get(blocks, "max", int, 30)
        if not 1 <= minimum <= maximum:
            self._fail("min", f"min ({minimum}) must be at least 1 and at most max ({maximum})")
        half_width = self._get(blocks, "half_width", float, 0.05)
        if not 0 < half_width < 1:
            self._fail("half_width", f"half_width must lie between 0 and 1, not {half_width:g}")
        warmup = self._get(blocks, "warmup", int, 1)
        if warmup < 0:
            self._fail("warmup", f"warmup must not be negative, not {warmup}")
        budget_ns = self._duration(blocks, "budget", "30m")
        baseline = self._baseline(table, arms)
        # all that is common is read before the first workload, while keys are still looked for in the whole file
        common = (self._vcpus(limits, 1), self._size(limits, "memory", "256MiB"))
        workloads = self._workloads(table, common, baseline)
        return Suite(
            name=os.path.basename(self._path).removesuffix(".toml"),
            title=self._get(table, "title", str, ""),
            question=self._get(table, "question", str, ""),
            digest=f"sha256:{digest}",
            arms=arms,
            baseline=baseline,
            workloads=workloads,
            warmup_blocks=warmup,
            min_blocks=minimum,
            max_blocks=maximum,
            budget_ns=budget_ns,
            target_half_width_ratio=half_width,
            path=self._path,
            definitions=definitions,
        )

    def _definitions(self, table: Mapping[str, Any]) -> tuple[ArmDefinition, ...]:
        found: list[ArmDefinition] = []
        for entry in self._entries(table, "arm"):
            definition = self._definition(entry)
            if definition.name in (*self._known_arms, *(other.name for other in found)):
                self._fail("name", f"there is a target '{definition.name}' already: give this arm another name")
            found.append(definition)
        return tuple(found)

    def _definition(self, entry: Mapping[str, Any]) -> ArmDefinition:
        self._check_keys(entry, _ARM, "key of an arm")
        name, use = self._get(entry, "name", str), self._get(entry, "use", str)
        if not _NAME.fullmatch(name):
            self._fail("name", f"a name is made of a-z, 0-9, - and _, not '{name}'")
        if use not in self._known_arms:
            self._fail("use", f"unknown target '{use}'{_did_you_mean(use, self._known_arms)}")
        known = registry.options_of(use)
        given = self._get(entry, "options", dict, {})
        self._check_keys(given, [option.name for option in known], f"option of '{use}'")
        options = {option.name: self._choice(given, option) for option in known if option.name in given}
        reason = registry.refusal(use, options)
        if reason:
            self._fail("options", f"'{name}' cannot be: {reason}")
        return ArmDefinition(name=name, use=use, options=options)

    def _entries(self, table: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
        """Yield the tables under a heading in double brackets; the lines looked at are those of the last one."""
        entries = table.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self._fail(key, f"write [[{key}]] tables")
        heading = re.compile(rf"\s*\[\[\s*{key}\s*\]\]")
        headings = [number for number, line in enumerate(self._lines) if re.match(r"\s*\[\[", line)]
        starts = [number for number in headings if heading.match(self._lines[number])]
        whole = self._after, self._before
        for index, entry in enumerate(entries):
            if index < len(starts):
                later = (number for number in headings if number > starts[index])
                self._after, self._before = starts[index], next(later, len(self._lines))
            yield entry
        self._after, self._before = whole

    def _baseline(self, table: Mapping[str, Any], arms: tuple[str, ...]) -> str:
        baseline = self._get(table, "baseline", str, arms[0])
        if baseline not in arms:
            self._fail("baseline", f"the baseline '{baseline}' is not among the arms{_did_you_mean(baseline, arms)}")
        return baseline

    def _workloads(self, table: Mapping[str, Any], common: tuple[int, int], baseline: str) -> tuple[WorkloadUse, ...]:
        uses: list[WorkloadUse] = []
        for entry in self._entries(table, "workload"):
            use = self._use(entry, common)
            if use.key in [other.key for other in uses]:
                self._fail("name" if use.name else "use", f"two workloads are called '{use.key}': give one a name")
            if use.arms and baseline not in use.arms:
                self._fail("arms", f"the baseline '{baseline}' must be among the arms of '{use.key}'")
            uses.append(use)
        if not uses:
            self._fail("workload", "no workloads: write at least one [[workload]] table")
        return tuple(uses)

    def _use(self, entry: Mapping[str, Any], common: tuple[int, int]) -> WorkloadUse:
        self._check_keys(entry, _USE, "key of a workload")
        workload = self._get(entry, "use", str)
        if workload not in WORKLOADS:
            self._fail("use", f"unknown workload '{workload}'{_did_you_mean(workload, WORKLOADS)}")
        name = self._get(entry, "name", str, "")
        if name and not _NAME.fullmatch(name):
            self._fail("name", f"a name is made of a-z, 0-9, - and _, not '{name}'")
        vcpus, memory_bytes = common
        return WorkloadUse(
            workload=workload,
            name=name,
            image=self._get(entry, "image", str),
            vcpus=self._vcpus(entry, vcpus),
            memory_bytes=self._size(entry, "memory", str(memory_bytes)),
            parameters=self._parameters(entry, workload),
            arms=self._arms(entry, "arms"),
        )

    def _parameters(self, entry: Mapping[str, Any], workload: str) -> dict[str, ParameterValue]:
        known = {parameter.name: parameter for parameter in WORKLOADS[workload].parameters}
        given = self._get(entry, "parameters", dict, {})
        self._check_keys(given, tuple(known), f"parameter of '{workload}'")
        values = {name: self._choice(given, known[name]) for name in given}
        return {**defaults(WORKLOADS[workload]), **values}

    def _choice(self, given: Mapping[str, Any], choice: Choice[ChoiceValue]) -> ChoiceValue:
        value = self._get(given, choice.name, type(choice.default))
        if choice.choices and value not in choice.choices:
            near = _did_you_mean(str(value), [str(each) for each in choice.choices])
            choices = ", ".join(str(each) for each in choice.choices)
            self._fail(choice.name, f"{choice.name} must be one of {choices}, not {value!r}{near}")
        return value

    def _arms(self, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        arms = self._get(table, key, list, [])
        for arm in arms:
            if arm not in self._known_arms:
                self._fail(key, f"unknown target '{arm}'{_did_you_mean(str(arm), self._known_arms)}")
        if len(set(arms)) != len(arms):
            self._fail(key, "a target is named twice")
        return tuple(arms)

    def _table(self, table: Mapping[str, Any], key: str, known: tuple[str, ...]) -> Mapping[str, Any]:
        value: Mapping[str, Any] = self._get(table, key, dict, {})
        self._check_keys(value, known, f"key of [{key}]")
        return value

    def _duration(self, table: Mapping[str, Any], key: str, default: str) -> int:
        try:
            return parse_duration_ns(self._get(table, key, str, default))
        except ValueError as error:
            self._fail(key, str(error))

    def _vcpus(self, table: Mapping[str, Any], default: int) -> int:
        vcpus = self._get(table, "vcpus", int, default)
        if vcpus < 1:
            self._fail("vcpus", f"vcpus must be at least 1, not {vcpus}")
        return vcpus

    def _size(self, table: Mapping[str, Any], key: str, default: str) -> int:
        try:
            return parse_bytes(self._get(table, key, str, default))
        except ValueError as error:
            self._fail(key, str(error))

    def _get(self, table: Mapping[str, Any], key: str, kind: type[T], default: T | None = None) -> T:
        if key not in table:
            if default is None:
                self._fail(key, f"'{key}' is missing")
            return default
        value = table[key]
        # a TOML 1 is a fine 1.0, but true is not a number
        if type(value) is not kind and not (kind is float and type(value) is int):
            self._fail(key, f"'{key}' must be {_KIND_NAMES[kind]}, not {value!r:.40}")
        exact = float(value) if kind is float and isinstance(value, int) else value
        return cast(T, exact)  # cast: the type has just been checked

    def _check_keys(self, table: Mapping[str, Any], known: Sequence[str], what: str) -> None:
        for key in table:
            if key not in known:
                self._fail(key, f"unknown {what} '{key}'{_did_you_mean(key, known)}")

    def _fail(self, key: str, message: str) -> NoReturn:
        raise SpecError(message, path=self._path, line=self._line_of(key), hint="lab bench list")

    def _line_of(self, key: str) -> int | None:
        pattern = re.compile(rf"""(^|[\s{{,\[."'])["']?{re.escape(key)}["']?(\s*=|\s*\]|\s*\.)""")
        for number, line in enumerate(self._lines[self._after : self._before], start=self._after + 1):
            if not line.lstrip().startswith("#") and pattern.search(line):
                return number
        return self._after + 1 if self._after else None


_KIND_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "an array",
    dict: "a table",
}


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def _syntax_error(error: tomllib.TOMLDecodeError, path: str, last_line: int) -> SpecError:
    # the line is an attribute from Python 3.14 on, and part of the message before
    match = re.search(r" \(at line (\d+), column \d+\)| \(at end of document\)", str(error))
    line = int(match[1]) if match and match[1] else last_line
    message = str(error)[: match.start()] if match else str(error)
    return SpecError(f"not TOML: {message}", path=path, line=line)
