from tabom_cli.core.evaluation.sanitize import longest_valid_block, names_used, sanitize

ANSWER = """Here is my solution:
import math
from typing import List

LIMIT = 10

def unused():
    return helper()

def helper(x):
    return x + LIMIT

@staticmethod
def solve(x: int) -> int:
    return helper(math.floor(x))

print(solve(3))
Hope this helps!
"""


def test_only_imports_and_what_the_entry_point_reaches_is_kept() -> None:
    assert sanitize(ANSWER, "solve") == (
        "import math\n"
        "from typing import List\n"
        "LIMIT = 10\n"
        "def helper(x):\n"
        "    return x + LIMIT\n"
        "@staticmethod\n"
        "def solve(x: int) -> int:\n"
        "    return helper(math.floor(x))"
    )


def test_names_that_the_tests_use_are_kept_too() -> None:
    kept = sanitize(ANSWER, "helper", also=names_used("assert unused() == 1"))
    assert "def unused" in kept
    assert "def solve" not in kept


def test_without_the_entry_point_all_definitions_stay() -> None:
    kept = sanitize(ANSWER, "missing")
    assert "def unused" in kept
    assert "def solve" in kept
    assert "print(" not in kept


def test_the_longest_parsing_block_wins_and_the_earliest_among_equals() -> None:
    assert longest_valid_block("some words\na = 1\nb = 2\nmore words\nc = 3") == "a = 1\nb = 2"
    assert longest_valid_block("a = 1\n??\nb = 2") == "a = 1"
    assert longest_valid_block("not python at all") == "not python at all"


def test_only_the_first_hundred_lines_are_looked_at() -> None:
    text = "\n".join(f"x{number} = {number}" for number in range(150))
    assert longest_valid_block(text).splitlines()[-1] == "x99 = 99"


def test_a_function_that_is_cut_off_is_dropped_with_what_follows() -> None:
    text = "def good():\n    return 1\n\ndef bad(:\n    return"
    assert sanitize(text, "good") == "def good():\n    return 1"
