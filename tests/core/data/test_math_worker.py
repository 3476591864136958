"""The comparison inside the worker process, called here without the process."""

from __future__ import annotations

import io
import json
import sys

import pytest

from tabom_cli.core.data import math_worker


@pytest.mark.parametrize(
    ("answer", "expected", "verdict"),
    [
        (r"\frac{2}{4}", "0.5", "correct"),
        ("0.49", r"\frac12", "wrong"),
        ("$x+1$", "1+x", "correct"),
        ("", "3", "unparsable"),
        ("3", "", "error"),
        (r"9^{9^{9^9}}", r"\frac{8}{3}", "timeout"),
    ],
)
def test_two_answers_are_compared(answer: str, expected: str, verdict: str) -> None:
    assert math_worker.compare(answer, expected) == verdict


def test_worker_says_ready_and_answers_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [{"answer": "1/2", "expected": "0.5"}, {"answer": "1", "expected": "2"}]
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(math_worker.resource, "setrlimit", lambda _, pair: limits.append(pair))
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(r) + "\n" for r in requests)))
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    math_worker.main()
    assert sys.stdout.getvalue() == '"ready"\n"correct"\n"wrong"\n'
    assert limits == [(math_worker.MEMORY_BYTES, math_worker.MEMORY_BYTES)]
