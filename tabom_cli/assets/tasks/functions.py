"""Functions: small Python functions from a description in English, checked by running them.

Five families say what to do (number, pipeline, branch, text, loop) and share their operations; three
give the kind of function and examples of it (line, sequence, slice), so that its constants have to be
worked out. Expected values come from closures that are built beside the code, never
from running text. Knows nothing about the sandbox: the check hands back a program.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tabom_cli.assets.tasks.function_parts import (
    condition,
    integer_chain,
    integer_term,
    text_chain,
    two_argument_term,
)
from tabom_cli.assets.tasks.problem import Draft, Program

NUM_TESTS = 6

_NAMES = ("f", "g", "h", "run", "calc", "make", "solve", "work")
_DEFINITION = re.compile(r"^def [A-Za-z_]\w*\(", re.MULTILINE)


@dataclass(frozen=True)
class _Function:
    arguments: str
    words: str
    body: str
    value: Callable[..., Any]
    sample: Callable[[random.Random], tuple[Any, ...]]


def draft(rng: random.Random) -> Draft:
    """A function of a random family under a random name."""
    name = rng.choice(_NAMES)
    function = rng.choices(_FAMILIES, _WEIGHTS)[0](rng)
    signature = f"{name}({function.arguments})"
    test_seed = rng.getrandbits(32)
    return Draft(
        key=f"({function.arguments}) {function.body}",
        prompt=f"Write {signature}: {function.words.replace('{name}', name)}.",
        answer=f"def {signature}:\n    {function.body}",
        reference=lambda: _reference(name, function, random.Random(test_seed)),
    )


def is_parsable(response: str) -> bool:
    """Whether the response defines a function at the left margin."""
    return _DEFINITION.search(response) is not None


def check(response: str, reference: str) -> Program:
    """The response followed by its tests; the program exits 0 when all of them hold.

    Args:
        response: Python source.
        reference: JSON with `entry_point` and `tests` (assert statements).
    """
    tests = json.loads(reference)["tests"]
    return Program(source="\n".join((response, *tests)) + "\n")


def _reference(name: str, function: _Function, rng: random.Random) -> str:
    tests = []
    for _ in range(NUM_TESTS):
        values = function.sample(rng)
        shown = ", ".join(map(repr, values))
        tests.append(f"assert {name}({shown}) == {function.value(*values)!r}")
    return json.dumps({"entry_point": name, "tests": tests})


def _number(rng: random.Random) -> _Function:
    argument = rng.choice(("x", "n", "v"))
    chain = integer_chain(rng, argument, num_operations=rng.choice((2, 3)))
    return _Function(
        argument,
        chain.words,
        f"return {chain.code}",
        chain.value,
        lambda draw: (draw.randint(-9, 30),),
    )


def _pipeline(rng: random.Random) -> _Function:
    argument = rng.choice(("xs", "items", "nums"))
    term, test = integer_term(rng, "x"), condition(rng, "x")
    reducer, code, reduce = rng.choice(_REDUCERS)
    inner = f"{term.code} for x in {argument} if {test.code}"
    return _Function(
        argument,
        f"{reducer} of {term.words} for x in {argument} if {test.words}",
        f"return {code.format(inner)}",
        lambda values: reduce([term.value(x) for x in values if test.value(x)]),
        lambda draw: ([draw.randint(0, 24) for _ in range(draw.randint(3, 7))],),
    )


_REDUCERS: tuple[tuple[str, str, Callable[[list[int]], Any]], ...] = (
    ("sum", "sum({})", sum),
    ("list", "[{}]", list),
    ("set", "{{{}}}", set),
    ("max (0 if none)", "max([{}], default=0)", lambda values: max(values, default=0)),
    ("min (0 if none)", "min([{}], default=0)", lambda values: min(values, default=0)),
)


def _branch(rng: random.Random) -> _Function:
    first, second = rng.choice((("a", "b"), ("p", "q"), ("x", "y")))
    subject, other = rng.choice(((first, second), (second, first)))
    test = condition(rng, subject, other=other)
    yes, no = two_argument_term(rng, first, second), two_argument_term(rng, first, second)
    swap = subject == second
    return _Function(
        f"{first}, {second}",
        f"{yes.words} if {test.words} else {no.words}",
        f"if {test.code}:\n        return {yes.code}\n    return {no.code}",
        lambda left, right: (
            yes.value(left, right)
            if (test.value(right, left) if swap else test.value(left, right))
            else no.value(left, right)
        ),
        lambda draw: (draw.randint(0, 24), draw.randint(0, 24)),
    )


def _text(rng: random.Random) -> _Function:
    argument = rng.choice(("s", "text", "word"))
    chain = text_chain(rng, argument, num_operations=rng.choice((2, 3)))
    return _Function(
        argument,
        chain.words,
        f"return {chain.code}",
        chain.value,
        lambda draw: ("".join(draw.choice("abcdeABC") for _ in range(draw.randint(2, 9))),),
    )


def _loop(rng: random.Random) -> _Function:
    start = rng.randint(0, 20)
    term, test = integer_term(rng, "i"), condition(rng, "i")
    return _Function(
        "n",
        f"start at {start}, add {term.words} for i below n if {test.words}",
        f"t = {start}\n    for i in range(n):\n        if {test.code}:\n"
        f"            t += {term.code}\n    return t",
        lambda n: start + sum(term.value(i) for i in range(n) if test.value(i)),
        lambda draw: (draw.randint(0, 30),),
    )


def _line(rng: random.Random) -> _Function:
    low, high = sorted(rng.sample(range(1, 10), 2))
    slope, offset = rng.randint(2, 9), rng.randint(1, 20)
    return _linear(
        rng,
        slope,
        offset,
        "a line, {name}" + f"({low}) = {slope * low + offset}, " + "{name}"
        f"({high}) = {slope * high + offset}",
    )


def _sequence(rng: random.Random) -> _Function:
    slope, offset, first = rng.randint(2, 12), rng.randint(1, 30), rng.randint(1, 5)
    terms = ", ".join(str(slope * x + offset) for x in range(first, first + 3))
    return _linear(rng, slope, offset, f"a line, from {first} on {terms}")


def _linear(rng: random.Random, slope: int, offset: int, words: str) -> _Function:
    argument = rng.choice(("x", "n", "v"))
    return _Function(
        argument,
        words,
        f"return {argument} * {slope} + {offset}",
        lambda x: slope * x + offset,
        lambda draw: (draw.randint(-9, 30),),
    )


def _slice(rng: random.Random) -> _Function:
    argument = rng.choice(("xs", "items", "nums"))
    length = rng.randint(4, 6)
    start, stop = sorted(rng.sample(range(length + 1), 2))
    shown = rng.sample(range(10), length)
    return _Function(
        argument,
        f"a slice, {shown} gives {shown[start:stop]}",
        f"return {argument}[{start}:{stop}]",
        lambda values: values[start:stop],
        lambda draw: (draw.sample(range(30), length),),
    )


_FAMILIES = (_number, _pipeline, _branch, _text, _loop, _line, _sequence, _slice)
_WEIGHTS = (1, 1, 1, 1, 1, 3, 3, 1)
