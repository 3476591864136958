"""The process that compares two maths answers with math-verify: JSON lines in, verdicts out.

Run as `python -m`; knows nothing about where answers come from. Its parent stops it when it takes too
long; its memory is limited, since `10^{10^{10}}` is a short text.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from typing import Any

from tabom_cli.core.data.records import Verdict

MEMORY_BYTES = 4 * 2**30


def compare(answer: str, expected: str) -> Verdict:
    r"""The verdict on a final answer; `error` when the reference cannot be compared with it.

    A reference without a mathematical value (`\frac{1}{`) is text: an equal answer is correct, of any other
    nothing is known.
    """
    import math_verify

    gold: list[Any] = []
    try:
        gold = _parsed(expected)
        found = _parsed(answer) if gold else []
        is_equal = math_verify.verify(gold, found, timeout_seconds=3, raise_on_error=True)
    except math_verify.errors.TimeoutException:
        return "timeout"
    except MemoryError:
        return "error"
    except Exception:  # math-verify lets any error of sympy's parser and simplifier through
        logging.getLogger(__name__).debug("comparison failed", exc_info=True)
        return "wrong" if gold else "error"
    if is_equal:
        return "correct"
    if all(isinstance(value, str) for value in gold):
        return "error"
    return "wrong" if found else "unparsable"


def main() -> None:
    """Answer requests until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    import math_verify.errors  # noqa: F401  # the slow import belongs before `ready`

    _answer("ready")
    for line in sys.stdin:
        request = json.loads(line)
        _answer(compare(request["answer"], request["expected"]))


def _answer(word: str) -> None:
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


def _parsed(text: str) -> list[Any]:
    """Values and, last, the text itself; empty when there is nothing."""
    import math_verify

    values: list[Any] = math_verify.parse(_in_box(text), parsing_timeout=3, raise_on_error=True)
    return values


def _in_box(answer: str) -> str:
    return f"$\\boxed{{{answer.strip().strip('$')}}}$"


if __name__ == "__main__":
    main()
