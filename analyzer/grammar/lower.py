"""Lowers Lark rules to patterns.

Four naming sentences read a grammar: a rule under `?message` is an event kind; a lower-case rule inside it is a
column (`name__variant` is another spelling of column `name`); the upper-case terminal inside that is its type; what
is optional or in one branch only is nullable. A template called `_keysN` is the unordered tail; other `_rules` and
templates are written out in place.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from lark import Token, Tree
from lark.grammar import NonTerminal, Terminal

from analyzer.errors import GrammarError
from analyzer.grammar.pattern import (
    TAIL_COLUMNS,
    Capture,
    Choice,
    Column,
    EventKind,
    Item,
    Literal,
    Pairs,
    Sequence,
    Skip,
)
from analyzer.grammar.source import Source
from analyzer.grammar.types import TYPES

NOISE = "noise"
_TAIL = re.compile(r"_keys[0-9]*")
_Env = dict[str, Any]


def column_name(rule: str) -> str:
    """Name of the column a rule spells: `tube_id` for `tube_id__head`."""
    return rule.split("__", 1)[0]


class _Lowering:
    """One grammar being lowered; holds nothing but the source and where we are, for messages."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.rule = ""
        self.open: list[str] = []

    def refuse(self, what: str, remedy: str) -> GrammarError:
        note = self.source.notes.get(self.rule)
        where = f"{self.source.file}:{note.line}" if note else self.source.file
        return GrammarError(f"{where}: rule {self.rule}: {what}", remedy)

    # -- rules -------------------------------------------------------------------------------------------------

    def sequence(self, node: Any, column: str | None, env: _Env) -> Sequence:
        """Items of a rule's tree; inside a column its terminals capture."""
        if isinstance(node, NonTerminal):
            return self.reference(str(node.name), column, env)
        if isinstance(node, Terminal):
            return (self.terminal(str(node.name), column),)
        if isinstance(node, Token):
            raise self.refuse(f"{node!r} stands outside a rule's parts", "name it in a terminal")
        match node.data:
            case "expansions":
                options = tuple(self.sequence(child, column, env) for child in node.children)
                return options[0] if len(options) == 1 else (Choice(options),)
            case "expansion":
                return _joined(item for child in node.children for item in self.sequence(child, column, env))
            case "alias" | "value":
                return self.sequence(node.children[0], column, env)
            case "literal":
                return (self.literal(node.children[0]),)
            case "maybe":
                return (Choice((self.sequence(node.children[0], column, env), ())),)
            case "expr":
                return self.repeated(node, column, env)
            case "template_usage":
                return self.template(node, column, env)
        raise self.refuse(f"{node.data} is not supported", "spell it as a sequence of literals and columns")

    def reference(self, name: str, column: str | None, env: _Env) -> Sequence:
        if name in env:
            return self.sequence(env[name], column, {})
        if name not in self.source.rules:
            raise self.refuse(f"no rule is called {name}", "define it here or in grammars/fields.lark")
        params, tree = self.source.rules[name]
        if params:
            raise self.refuse(f"{name} is a template", f"use it as {name}{{…}}")
        if name.startswith("_"):
            return self.tail((), env) if _TAIL.fullmatch(name) else self.written_out(name, tree, column, {})
        if column is not None:
            raise self.refuse(f"column {name} stands inside column {column}", "start its name with '_' to write it out")
        return self.column(name).sequence

    def written_out(self, name: str, tree: Any, column: str | None, env: _Env) -> Sequence:
        if name in self.open:
            raise self.refuse(
                f"{name} contains itself", "a rule of a log line is regular: spell the repetition in a terminal"
            )
        self.open.append(name)
        try:
            return self.sequence(tree, column, env)
        finally:
            self.open.pop()

    def column(self, name: str) -> Column:
        params, tree = self.source.rules.get(name, (None, None))
        if tree is None or params:
            raise self.refuse(f"no column is called {name}", "define it in grammars/fields.lark")
        return Column(column_name(name), self.written_out(name, tree, column_name(name), {}))

    def template(self, node: Tree[Any], column: str | None, env: _Env) -> Sequence:
        name: Any
        name, *arguments = node.children
        if _TAIL.fullmatch(str(name.name)):
            return self.tail(arguments, env)
        params, tree = self.source.rules[str(name.name)]
        bound = {param: env.get(_plain(value), value) for param, value in zip(params, arguments, strict=True)}
        return self.written_out(str(name.name), tree, column, bound)

    def tail(self, arguments: Any, env: _Env) -> Sequence:
        names = [_plain(env.get(_plain(value), value)) for value in arguments]
        spellings: dict[str, list[Sequence]] = {}
        for name in dict.fromkeys((*names, *TAIL_COLUMNS)):
            column = self.column(name)
            spellings.setdefault(column.name, []).append(column.sequence)
        # several spellings of one column are looked for at once, so that the first segment wins, whatever its spelling
        return (Pairs(tuple(Column(name, _one_of(found)) for name, found in spellings.items())),)

    def repeated(self, node: Tree[Any], column: str | None, env: _Env) -> Sequence:
        inner, op = node.children[0], str(node.children[1])
        if op == "?":
            return (Choice((self.sequence(inner, column, env), ())),)
        raise self.refuse(
            f"repetition '{op}' is not regular enough to have columns",
            "put it inside a terminal, or use a _keysN tail",
        )

    # -- terminals ---------------------------------------------------------------------------------------------

    def literal(self, token: Token) -> Item:
        if token.type == "STRING" and not token.endswith("i"):
            return Literal(ast.literal_eval(token))
        return Skip("", self.token_regex(token))

    def terminal(self, name: str, column: str | None) -> Item:
        regex = self.terminal_regex(name)
        if column is None or name not in TYPES:
            return Skip(name, regex)
        return Capture(column, name, regex)

    def terminal_regex(self, name: str) -> str:
        if name not in self.source.terminals:
            raise self.refuse(f"no terminal is called {name}", "define it here or in grammars/fields.lark")
        return self.tree_regex(self.source.terminals[name])

    def tree_regex(self, node: Any) -> str:
        if isinstance(node, Terminal):
            return f"(?:{self.terminal_regex(str(node.name))})"
        match node.data:
            case "expansions":
                return "|".join(self.tree_regex(child) for child in node.children)
            case "expansion":
                return "".join(self.part_regex(child) for child in node.children)
            case "value":
                return self.tree_regex(node.children[0])
            case "literal":
                return self.token_regex(node.children[0])
            case "expr":
                return f"(?:{self.tree_regex(node.children[0])}){node.children[1]}"
            case "maybe":
                return f"(?:{self.tree_regex(node.children[0])})?"
        raise self.refuse(f"{node.data} in a terminal is not supported", "write the terminal as one /regex/")

    def part_regex(self, node: Any) -> str:
        inner = self.tree_regex(node)
        return f"(?:{inner})" if "|" in inner else inner

    def token_regex(self, token: Token) -> str:
        text = str(token)
        if token.type == "STRING":
            folded = text.endswith("i")
            body = re.escape(ast.literal_eval(text.removesuffix("i")))
        else:
            end = text.rindex("/")
            folded = "i" in text[end:]
            body = text[1:end].replace("\\/", "/")
        return f"(?i:{body})" if folded else body


def _one_of(options: list[Sequence]) -> Sequence:
    return options[0] if len(options) == 1 else (Choice(tuple(options)),)


def _plain(value: Any) -> str:
    node: Any = value.children[0] if isinstance(value, Tree) else value
    return str(node.name)


def _joined(items: Any) -> Sequence:
    """Adjacent literals become one, so that the head of a pattern is as long as it can be."""
    joined: list[Item] = []
    for item in items:
        if isinstance(item, Literal) and joined and isinstance(joined[-1], Literal):
            joined[-1] = Literal(joined[-1].text + item.text)
        else:
            joined.append(item)
    return tuple(joined)


def _alternatives(source: Source, start: str) -> list[str]:
    _, tree = source.rules[start]
    return [str(value.name) for value in tree.scan_values(lambda value: isinstance(value, NonTerminal))]


def lower(source: Source, target: str, start: str = "message") -> tuple[EventKind, ...]:
    """Lower every kind listed under `?start`, in the order of the list.

    Raises:
        GrammarError: a rule is not regular, or names what does not exist.
    """
    if start not in source.rules:
        raise GrammarError(f"{source.file} has no ?{start}", f"list its kinds under '?{start}: …'")
    lowering = _Lowering(source)
    kinds = []
    for name in _alternatives(source, start):
        lowering.rule = name
        if name not in source.rules:
            raise lowering.refuse("is listed and not defined", f"remove it from ?{start} or write the rule")
        note = source.notes.get(name)
        sequence = lowering.sequence(source.rules[name][1], None, {})
        kinds.append(
            EventKind(
                name=name,
                target=target,
                sequence=sequence,
                doc=note.doc if note else "",
                samples=note.samples if note else (),
                file=source.file,
                line=note.line if note else 0,
            )
        )
    return tuple(kinds)


def lower_rule(source: Source, rule: str, *, as_column: bool = False) -> Sequence:
    """Lower one rule: as a sequence of columns, or as a column itself."""
    lowering = _Lowering(source)
    lowering.rule = rule
    return lowering.column(rule).sequence if as_column else lowering.sequence(source.rules[rule][1], None, {})
