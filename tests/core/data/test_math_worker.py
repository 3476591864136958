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
        ("3", r"\frac{1}{", "error"),
        ("3", "{{{", "error"),
        ("3", "???", "error"),
        ("3", "\\", "error"),
        ("???", "???", "correct"),
        ("???", "3", "wrong"),
    ],
)
def test_two_answers_are_compared(answer: str, expected: str, verdict: str) -> None:
    assert math_worker.compare(answer, expected) == verdict


@pytest.mark.parametrize(("faulty", "verdict"), [("gold", "error"), ("found", "wrong")])
def test_a_crash_of_the_parser_is_the_fault_of_the_side_that_it_read(
    monkeypatch: pytest.MonkeyPatch, faulty: str, verdict: str
) -> None:
    parsed = math_worker._parsed

    def crashing(text: str) -> list[object]:
        if text == faulty:
            raise RecursionError
        return parsed(text)

    monkeypatch.setattr(math_worker, "_parsed", crashing)
    assert math_worker.compare("found", "gold") == verdict


def test_worker_says_ready_and_answers_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [{"answer": "1/2", "expected": "0.5"}, {"answer": "1", "expected": "2"}]
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(math_worker.resource, "setrlimit", lambda _, pair: limits.append(pair))
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(r) + "\n" for r in requests)))
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    math_worker.main()
    assert sys.stdout.getvalue() == '"ready"\n"correct"\n"wrong"\n'
    assert limits == [(math_worker.MEMORY_BYTES, math_worker.MEMORY_BYTES)]
