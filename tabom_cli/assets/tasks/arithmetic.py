"""Arithmetic: word problems of two to four steps, short working, `The answer is N`.

The final number alone decides; the working is not checked. Knows nothing about splits or models.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from tabom_cli.assets.tasks.problem import Draft

_NAMES = ("Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gia", "Hugo", "Ida", "Jon", "Kim", "Leo")
_ITEMS = ("apples", "books", "cards", "coins", "eggs", "pens", "plums", "shells", "stamps", "toys")
_BOXES = ("bags", "boxes", "jars", "packs")
_FINAL = re.compile(r"[Tt]he answer is:?\s*\$?(-?[0-9]{1,12})(?![0-9])")

_Event = tuple[str, str, int]  # sentence part, operator, operand


def draft(rng: random.Random) -> Draft:
    """A story about one person's things: a start, what happens to them, a question."""
    name, items = rng.choice(_NAMES), rng.choice(_ITEMS)
    steps: list[str] = []
    if rng.random() < 0.5:
        count, each = rng.randint(2, 9), rng.randint(2, 9)
        value = count * each
        story = [f"{name} has {count} {rng.choice(_BOXES)} of {each} {items}."]
        steps.append(f"{count} * {each} = {value}")
    else:
        value = rng.randint(5, 40)
        story = [f"{name} has {value} {items}."]
    num_steps = rng.choices((2, 3, 4), (2, 2, 1))[0]
    while len(steps) < num_steps:
        words, operator, operand = _event(rng, value)
        result = _apply(value, operator, operand)
        steps.append(f"{value} {operator} {operand} = {result}")
        story.append(words)
        value = result
    story.append(f"How many {items} now?")
    answer = str(value)
    return Draft(
        key=" ".join(story),
        prompt=" ".join(story),
        answer=f"{', '.join(steps)}. The answer is {answer}",
        reference=lambda: answer,
    )


def final_number(response: str) -> int | None:
    """The number after the last `The answer is`, or None."""
    found = _FINAL.findall(response)
    return int(found[-1]) if found else None


def is_parsable(response: str) -> bool:
    """Whether the response names a final answer."""
    return final_number(response) is not None


def check(response: str, reference: str) -> bool:
    """Whether the last `The answer is N` has the reference's number.

    Args:
        response: Working and final sentence.
        reference: The number as decimal text.
    """
    return final_number(response) == int(reference)


def _apply(value: int, operator: str, operand: int) -> int:
    if operator == "+":
        return value + operand
    if operator == "-":
        return value - operand
    return value * operand if operator == "*" else value // operand


def _event(rng: random.Random, value: int) -> _Event:
    makers: list[Callable[[], _Event]] = [
        lambda: _amount(rng, "+", rng.randint(2, 20), ("Then buys", "Then finds", "Then gets")),
    ]
    if value > 3:
        most = min(20, value - 1)
        makers.append(
            lambda: _amount(
                rng, "-", rng.randint(2, most), ("Then loses", "Then sells", "Then gives away")
            )
        )
    factors = [factor for factor in range(2, 5) if value * factor <= 200]
    if factors:
        makers.append(lambda: _times(rng.choice(factors)))
    divisors = [divisor for divisor in range(2, 10) if value % divisor == 0 and value > divisor]
    if divisors:
        makers.append(lambda: _share(rng.choice(divisors)))
    return rng.choice(makers)()


def _amount(rng: random.Random, operator: str, amount: int, phrases: tuple[str, ...]) -> _Event:
    return f"{rng.choice(phrases)} {amount}.", operator, amount


def _times(factor: int) -> _Event:
    words = {2: "Then doubles them.", 3: "Then triples them."}
    return words.get(factor, f"Then has {factor} times as many."), "*", factor


def _share(divisor: int) -> _Event:
    if divisor == 2:
        return "Then keeps half.", "/", 2
    return f"Then makes {divisor} equal piles and keeps one.", "/", divisor
