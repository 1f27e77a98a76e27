"""The tree of a template and a value -> text; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn

from lab.cli.template_functions import INT, LAZY, STRING, STRINGS, Function, fits
from lab.cli.template_syntax import Action, Block, Call, Command, Jump, Literal, Node, Operand, Path, Pipeline, Text
from lab.cli.template_values import NIL, Row, Value, is_struct, is_true, printed, shown, type_name
from lab.errors import TemplateError

_NOTHING = object()  # what the first command of a pipeline is given


class Evaluation:
    """One rendering: the text so far, and the variables that are known at this place."""

    def __init__(self, source: str, root: Value, functions: Mapping[str, Function]) -> None:
        self._source = source
        self._functions = functions
        self._variables: list[tuple[str, Value]] = [("$", root)]
        self._written: list[str] = []

    def render(self, nodes: Sequence[Node], dot: Value) -> str:
        """Return what the nodes write.

        Raises:
            TemplateError: with docker's words and the place in the template.
        """
        self._run(nodes, dot)
        return "".join(self._written)

    def _run(self, nodes: Sequence[Node], dot: Value) -> str:
        """Write the nodes; return the kind of the jump that ended them early, or ""."""
        for node in nodes:
            if isinstance(node, Text):
                self._written.append(node.text)
            elif isinstance(node, Action):
                self._act(node.pipeline, dot)
            elif isinstance(node, Jump):
                return node.kind
            elif jump := self._block(node, dot):
                return jump
        return ""

    def _act(self, pipeline: Pipeline, dot: Value) -> None:
        value = self._pipeline(pipeline, dot)
        if not pipeline.variables:
            self._written.append(printed(value))

    def _block(self, block: Block, dot: Value) -> str:
        known = len(self._variables)
        try:
            if block.kind == "range":
                return self._range(block, dot)
            value = self._pipeline(block.pipeline, dot)
            if is_true(value):
                return self._run(block.body, value if block.kind == "with" else dot)
            return self._run(block.otherwise, dot)
        finally:
            del self._variables[known:]

    def _range(self, block: Block, dot: Value) -> str:
        pipeline = block.pipeline
        value = self._commands(pipeline, dot)
        empty = True
        for key, item in self._items(value, pipeline):
            empty = False
            known = len(self._variables)
            self._assign(pipeline, (item,) if len(pipeline.variables) == 1 else (key, item))
            jump = self._run(block.body, item)
            if pipeline.declares:
                del self._variables[known:]
            if jump == "break":
                break
        return self._run(block.otherwise, dot) if empty else ""

    def _items(self, value: Value, pipeline: Pipeline) -> Iterator[tuple[Value, Value]]:
        if isinstance(value, Mapping):
            yield from ((key, value[key]) for key in sorted(value, key=str))
        elif isinstance(value, (list, tuple)):
            yield from enumerate(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            if len(pipeline.variables) > 1:
                first = pipeline.commands[0].operands[0]
                reason = f"can't use {value} to iterate over more than one variable"
                self._fail(first.position, pipeline.source, reason)
            yield from ((number, number) for number in range(value))
        elif value is not None and value is not NIL:
            first = pipeline.commands[0].operands[0]
            self._fail(first.position, pipeline.source, f"range can't iterate over {shown(value)}")

    def _pipeline(self, pipeline: Pipeline, dot: Value) -> Value:
        value = self._commands(pipeline, dot)
        self._assign(pipeline, (value,))
        return value

    def _commands(self, pipeline: Pipeline, dot: Value) -> Value:
        value: Value = _NOTHING
        for command in pipeline.commands:
            value = self._command(command, dot, value)
        return value

    def _assign(self, pipeline: Pipeline, values: Sequence[Value]) -> None:
        for name, value in zip(pipeline.variables, values, strict=False):
            if pipeline.declares:
                self._variables.append((name, value))
            else:
                last = max(index for index, (known, _) in enumerate(self._variables) if known == name)
                self._variables[last] = (name, value)

    def _command(self, command: Command, dot: Value, piped: Value) -> Value:
        first, *arguments = command.operands
        if isinstance(first, Call):
            return self._call(command, first, arguments, dot, piped)
        if isinstance(first, Literal) and first.value is None:
            self._fail(first.position, "nil", "nil is not a command")
        if not isinstance(first, Path) or not first.names:
            if arguments or piped is not _NOTHING:
                self._fail(first.position, first.source, f"can't give argument to non-function {first.source}")
            return self._value(first, dot)
        given = [self._value(argument, dot) for argument in arguments] + ([] if piped is _NOTHING else [piped])
        return self._path(first, dot, given)

    def _value(self, operand: Operand, dot: Value) -> Value:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Call):
            return self._call(Command(operands=(operand,)), operand, [], dot, _NOTHING)
        assert isinstance(operand, Path), "there is no other operand"
        return self._path(operand, dot, [])

    def _path(self, path: Path, dot: Value, given: Sequence[Value]) -> Value:
        value = dot
        if isinstance(path.start, Pipeline):
            value = self._pipeline(path.start, dot)
        elif path.start is not None:
            value = next(value for name, value in reversed(self._variables) if name == path.start)
        for name in path.names:
            value = self._field(value, name, path, given if name is path.names[-1] else [])
        return value

    def _field(self, value: Value, name: str, path: Path, given: Sequence[Value]) -> Value:
        if value is None:
            return None
        if value is NIL:
            self._fail(path.position, path.source, f"nil pointer evaluating {name}")
        if not isinstance(value, Mapping):
            self._fail(path.position, path.source, f"can't evaluate field {name} in type {type_name(value)}")
        found = value.get(name)
        if name not in value and is_struct(value):
            there = ", ".join(str(key) for key in value)
            # docker's lists are of Go's types, what it inspects is a map by then
            reason = f"can't evaluate field {name}" if isinstance(value, Row) else f'map has no entry for key "{name}"'
            self._fail(path.position, path.source, reason, hint=f"one of: {there}")
        if callable(found):
            if len(given) != 1:
                self._fail(path.position, path.source, f"wrong number of args for {name}: want 1 got {len(given)}")
            text_function: Callable[[Value], Value] = found
            return text_function(given[0])
        if given:
            self._fail(path.position, path.source, f"{name} has arguments but cannot be invoked as function")
        return found

    def _call(self, command: Command, call: Call, operands: Sequence[Operand], dot: Value, piped: Value) -> Value:
        if call.name in LAZY:
            return self._lazy(call, operands, dot, piped)
        function = self._functions[call.name]
        fault = function.count_fault(len(operands) + (piped is not _NOTHING))
        if fault:
            self._fail(call.position, call.name, f"wrong number of args for {call.name}: {fault}")
        values = [self._value(operand, dot) for operand in operands] + ([] if piped is _NOTHING else [piped])
        for index, value in enumerate(values):
            kind = function.type_of(index)
            if not fits(value, kind):
                self._misfit(operands[index] if index < len(operands) else call, value, kind)
        try:
            return function.call(*values)
        except ValueError as error:
            return self._fail(call.position, command.source, f"error calling {call.name}: {error}")

    def _lazy(self, call: Call, operands: Sequence[Operand], dot: Value, piped: Value) -> Value:
        """Return the first argument that decides ``and`` or ``or``, else the last."""
        if not operands and piped is _NOTHING:
            self._fail(call.position, call.name, f"wrong number of args for {call.name}: want at least 1 got 0")
        value: Value = None
        for operand in operands:
            value = self._value(operand, dot)
            if is_true(value) == (call.name == "or"):
                return value
        return value if piped is _NOTHING else piped

    def _misfit(self, operand: Operand, value: Value, kind: str) -> NoReturn:
        expected = {STRING: "string", INT: "int", STRINGS: "[]string"}[kind]
        if isinstance(operand, Literal) and operand.value is None:
            reason = f"cannot assign nil to {expected}"
        elif isinstance(operand, Literal):
            reason = f"expected {'integer' if kind == INT else expected}; found {operand.source}"
        else:
            reason = f"wrong type for value; expected {expected}; got {type_name(value)}"
        self._fail(operand.position, operand.source, reason)

    def _fail(self, position: int, source: str, reason: str, *, hint: str = "") -> NoReturn:
        line = self._source.count("\n", 0, position) + 1
        column = position - (self._source.rfind("\n", 0, position) + 1)
        raise TemplateError(
            f'template parsing error: template: :{line}:{column}: executing "" at <{source}>: {reason}', hint=hint
        )
