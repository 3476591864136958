"""The parts that the families of `functions` are built from: words, code and value side by side.

Knows nothing about whole functions or their tests.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True)
class Part:
    """One expression three times: in English, as Python source and as a closure with its value."""

    words: str
    code: str
    value: Callable[..., Any]


def integer_chain(rng: random.Random, argument: str, *, num_operations: int) -> Part:
    """Operations on one integer, applied one after another: `add 3, times 4, minus 7`."""
    words: list[str] = []
    code, is_sum = argument, False
    functions: list[Callable[[int], int]] = []
    previous = ""
    for _ in range(num_operations):
        kind = rng.choice(
            [name for name in ("add", "minus", "times", "square") if name != previous]
        )
        previous, k = kind, rng.randint(2, 20)
        inner = f"({code})" if is_sum else code
        if kind == "add":
            words.append(f"add {k}")
            code, is_sum = f"{code} + {k}", True
            functions.append(partial(operator.add, k))
        elif kind == "minus":
            words.append(f"minus {k}")
            code, is_sum = f"{code} - {k}", True
            functions.append(partial(operator.add, -k))
        elif kind == "times":
            words.append(f"times {k}")
            code, is_sum = f"{inner} * {k}", False
            functions.append(partial(operator.mul, k))
        else:
            words.append("square")
            code, is_sum = f"({code}) ** 2" if code != argument else f"{code} ** 2", False
            functions.append(lambda x: x * x)
    return Part(f"take {argument}, {', '.join(words)}", code, _composed(functions))


def text_chain(rng: random.Random, argument: str, *, num_operations: int) -> Part:
    """Operations on a string, applied one after another: `reverse, first 3, add '!'`."""
    words: list[str] = []
    code, needs_parentheses = argument, False
    functions: list[Callable[[str], str]] = []
    previous = ""
    for _ in range(num_operations):
        kind = rng.choice([name for name in _TEXT_KINDS if name != previous])
        previous, k = kind, rng.randint(2, 6)
        inner = f"({code})" if needs_parentheses else code
        needs_parentheses = kind in ("end", "start", "repeat")
        said, code, function = _text_operation(rng, kind, k, inner, code)
        words.append(said)
        functions.append(function)
    return Part(f"take {argument}, {', '.join(words)}", code, _composed(functions))


def integer_term(rng: random.Random, name: str) -> Part:
    """A small expression of one integer: `x plus 3`, `x times 4`, `x squared`, `x`."""
    k = rng.randint(2, 20)
    return rng.choice(
        (
            Part(f"{name} plus {k}", f"{name} + {k}", lambda x: x + k),
            Part(f"{name} minus {k}", f"{name} - {k}", lambda x: x - k),
            Part(f"{name} times {k}", f"{name} * {k}", lambda x: x * k),
            Part(f"{name} squared", f"{name} ** 2", lambda x: x * x),
            Part(name, name, lambda x: x),
        )
    )


def two_argument_term(rng: random.Random, first: str, second: str) -> Part:
    """A small expression of two integers; the closure takes both in the order of the signature."""
    k = rng.randint(2, 20)
    return rng.choice(
        (
            Part(f"{first} plus {second}", f"{first} + {second}", lambda a, b: a + b),
            Part(f"{first} minus {second}", f"{first} - {second}", lambda a, b: a - b),
            Part(f"{second} minus {first}", f"{second} - {first}", lambda a, b: b - a),
            Part(f"{first} times {second}", f"{first} * {second}", lambda a, b: a * b),
            Part(f"{first} plus {k}", f"{first} + {k}", lambda a, b: a + k),
            Part(f"{second} times {k}", f"{second} * {k}", lambda a, b: b * k),
            Part(f"{second} minus {k}", f"{second} - {k}", lambda a, b: b - k),
        )
    )


def condition(rng: random.Random, name: str, *, other: str | None = None) -> Part:
    """A test of one integer, or of one against another; the closure takes one or two integers."""
    k, divisor = rng.randint(3, 18), rng.randint(3, 6)
    parts = [
        Part(f"{name} above {k}", f"{name} > {k}", lambda x, *_: x > k),
        Part(f"{name} below {k}", f"{name} < {k}", lambda x, *_: x < k),
        Part(f"{name} is even", f"{name} % 2 == 0", lambda x, *_: x % 2 == 0),
        Part(f"{name} is odd", f"{name} % 2 == 1", lambda x, *_: x % 2 == 1),
        Part(
            f"{divisor} divides {name}", f"{name} % {divisor} == 0", lambda x, *_: x % divisor == 0
        ),
    ]
    if other is not None:
        parts.append(Part(f"{name} above {other}", f"{name} > {other}", lambda x, y: x > y))
        parts.append(Part(f"{name} below {other}", f"{name} < {other}", lambda x, y: x < y))
    return rng.choice(parts)


_TEXT_KINDS = (
    "reverse",
    "upper",
    "lower",
    "first",
    "last",
    "drop",
    "repeat",
    "end",
    "start",
    "replace",
)


def _text_operation(
    rng: random.Random, kind: str, k: int, inner: str, code: str
) -> tuple[str, str, Callable[[str], str]]:
    if kind == "reverse":
        return "reverse", f"{inner}[::-1]", lambda s: s[::-1]
    if kind == "upper":
        return "upper", f"{inner}.upper()", lambda s: s.upper()
    if kind == "lower":
        return "lower", f"{inner}.lower()", lambda s: s.lower()
    if kind == "first":
        return f"first {k}", f"{inner}[:{k}]", lambda s: s[:k]
    if kind == "last":
        return f"last {k}", f"{inner}[-{k}:]", lambda s: s[-k:]
    if kind == "drop":
        return f"drop {k}", f"{inner}[{k}:]", lambda s: s[k:]
    if kind == "repeat":
        return f"repeat {k}", f"{inner} * {k}", lambda s: s * k
    if kind == "replace":
        old, new = rng.sample("abcde", 2)
        return (
            f"replace {old} by {new}",
            f'{inner}.replace("{old}", "{new}")',
            (lambda s: s.replace(old, new)),
        )
    mark = rng.choice("!?.xyz")
    if kind == "end":
        return f"end with {mark}", f'{code} + "{mark}"', lambda s: s + mark
    return f"start with {mark}", f'"{mark}" + {code}', lambda s: mark + s


def _composed(functions: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def value(argument: Any) -> Any:
        for function in functions:
            argument = function(argument)
        return argument

    return value
