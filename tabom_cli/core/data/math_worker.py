"""The process that compares two maths answers with math-verify: JSON lines in, verdicts out.

Run as `python -m`; knows nothing about where answers come from. Its parent stops it when it takes too
long; its memory is limited, since `10^{10^{10}}` is a short text.
"""

from __future__ import annotations

import json
import logging
import resource
import sys

from tabom_cli.core.data.records import Verdict

MEMORY_BYTES = 4 * 2**30


def compare(answer: str, expected: str) -> Verdict:
    """The verdict on a final answer; `error` when the reference itself cannot be parsed."""
    import math_verify

    try:
        gold = math_verify.parse(_in_box(expected), parsing_timeout=3, raise_on_error=True)
        if not gold:
            return "error"
        found = math_verify.parse(_in_box(answer), parsing_timeout=3, raise_on_error=True)
        if not found:
            return "unparsable"
        is_equal = math_verify.verify(gold, found, timeout_seconds=3, raise_on_error=True)
    except math_verify.errors.TimeoutException:
        return "timeout"
    except MemoryError:
        return "error"
    except Exception:  # math-verify lets any error of sympy's parser and simplifier through
        logging.getLogger(__name__).debug("comparison failed", exc_info=True)
        return "wrong"
    return "correct" if is_equal else "wrong"


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


def _in_box(answer: str) -> str:
    return f"$\\boxed{{{answer.strip().strip('$')}}}$"


if __name__ == "__main__":
    main()
