"""Whether a text can be tried in more ways than it is long: what makes a backtracking engine slow.

Rust's engine is linear whatever the expression; Python's, which the reference, the explanations and the redaction use,
backtracks. It takes more than linear time on a text only where two loops of the expression can take the same part of
it (A. Weber and H. Seidl, On the degree of ambiguity of finite automata, 1991): quadratic where one loop leads to
another, exponential where a loop has two ways round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from analyzer.grammar.terminal import Automaton, automaton


def _reached(starts: Iterable[int], step: Callable[[int], Iterable[int]]) -> frozenset[int]:
    seen: set[int] = set()
    waiting = list(starts)
    while waiting:
        state = waiting.pop()
        if state not in seen:
            seen.add(state)
            waiting += step(state)
    return frozenset(seen)


def _loops(machine: Automaton) -> dict[int, frozenset[int]]:
    """Every state that can come round to itself, with the states it can meet on the way."""
    ahead = {state: _reached(follow, machine.follow.__getitem__) for state, follow in enumerate(machine.follow)}
    loops = [state for state, reached in ahead.items() if state in reached]
    return {state: frozenset(other for other in ahead[state] if state in ahead[other]) for state in loops}


def _together(
    machine: Automaton, start: tuple[int, ...], within: tuple[frozenset[int] | None, ...]
) -> set[tuple[int, ...]]:
    """Tuples of states that one text can lead to at once from `start`, each of them kept `within` its states."""
    seen: set[tuple[int, ...]] = set()
    waiting = [start]
    while waiting:
        tuples: list[tuple[tuple[int, ...], frozenset[str] | None]] = [((), None)]
        for state, allowed in zip(waiting.pop(), within, strict=True):
            steps = machine.follow[state] if allowed is None else machine.follow[state] & allowed
            tuples = [
                ((*before, step), common)
                for before, chars in tuples
                for step in steps
                if (common := machine.chars[step] if chars is None else chars & machine.chars[step])
            ]
        new = {found for found, _ in tuples} - seen
        seen |= new
        waiting += new
    return seen


def _two_ways_round(machine: Automaton, state: int, loop: frozenset[int]) -> bool:
    met = _together(machine, (state, state), (loop, loop))
    parted = (pair for pair in met if pair[0] != pair[1])
    return any((state, state) in _together(machine, pair, (loop, loop)) for pair in parted)


@cache
def ambiguous(regex: str) -> bool:
    """Whether two loops of a portable expression can take the same part of a text."""
    machine = automaton(regex)
    loops = _loops(machine)
    if any(_two_ways_round(machine, state, loop) for state, loop in loops.items()):
        return True
    return any(
        (first, second, second) in _together(machine, (first, first, second), (loops[first], None, loops[second]))
        for first in loops
        for second in loops
        if first != second and second in _reached([first], machine.follow.__getitem__)
    )
