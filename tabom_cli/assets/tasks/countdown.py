"""Countdown: reach a target from three or four numbers, one step after another.

Any correct derivation counts, in any order, so there are many right answers to one prompt. Knows
nothing about splits or models.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter

from tabom_cli.assets.tasks.problem import Draft

LARGEST_NUMBER = 15
LARGEST_TARGET = 99
LARGEST_INTERMEDIATE = 150

_STEP = re.compile(r"\s*(-?[0-9]{1,9})\s*([-+*/])\s*(-?[0-9]{1,9})\s*=\s*(-?[0-9]{1,9})\s*")


def draft(rng: random.Random) -> Draft:
    """A problem whose answer is a random derivation that uses every given number."""
    while True:
        numbers = [rng.randint(1, LARGEST_NUMBER) for _ in range(rng.choice((3, 4)))]
        derived = _derive(rng, numbers)
        if derived is None:
            continue
        steps, target = derived
        if 10 <= target <= LARGEST_TARGET and target not in numbers:
            break
    shown = ", ".join(map(str, numbers))
    reference = json.dumps({"numbers": numbers, "target": target})
    return Draft(
        key=f"{sorted(numbers)} {target}",
        prompt=f"Make {target} from {shown}.",
        answer=", ".join(steps),
        reference=lambda: reference,
    )


def is_parsable(response: str) -> bool:
    """Whether the response is a list of steps `a op b = c`, right or wrong."""
    return _steps(response) is not None


def check(response: str, reference: str) -> bool:
    """Whether every step is right, uses each number at most once, and the last one gives the target.

    Args:
        response: Steps `a op b = c` separated by commas, semicolons or new lines.
        reference: JSON with `numbers` and `target`.
    """
    expected = json.loads(reference)
    steps = _steps(response)
    if steps is None:
        return False
    available = Counter(expected["numbers"])
    for left, operator, right, result in steps:
        for number in (left, right):
            if available[number] == 0:
                return False
            available[number] -= 1
        if not _holds(left, operator, right, result):
            return False
        available[result] += 1
    return bool(steps[-1][3] == expected["target"])


def _steps(response: str) -> list[tuple[int, str, int, int]] | None:
    found = []
    for piece in re.split(r"[,;\n]", response.strip().rstrip(".")):
        match = _STEP.fullmatch(piece)
        if match is None:
            return None
        left, operator, right, result = match.groups()
        found.append((int(left), operator, int(right), int(result)))
    return found


def _holds(left: int, operator: str, right: int, result: int) -> bool:
    if operator == "+":
        return left + right == result
    if operator == "-":
        return left - right == result
    if operator == "*":
        return left * right == result
    return right != 0 and result * right == left


def _derive(rng: random.Random, numbers: list[int]) -> tuple[list[str], int] | None:
    pool = list(numbers)
    steps: list[str] = []
    while len(pool) > 1:
        left = pool.pop(rng.randrange(len(pool)))
        right = pool.pop(rng.randrange(len(pool)))
        choices = [("+", left + right)]
        if left > right:
            choices.append(("-", left - right))
        if left > 1 and right > 1:
            choices.append(("*", left * right))
            if left % right == 0:
                choices.append(("/", left // right))
        operator, result = rng.choice(choices)
        if result > LARGEST_INTERMEDIATE:
            return None
        steps.append(f"{left} {operator} {right} = {result}")
        pool.append(result)
    return steps, pool[0]
