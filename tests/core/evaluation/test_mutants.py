"""Reference solutions pass in the sandbox; mutations that break an assertion do not."""

from __future__ import annotations

import ast
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from evaluation_helpers import needs_benchmarks, read_jsonl, real_benchmarks
from mutants import breaks_an_assertion, mutations

from tabom_cli.core.evaluation.tasks import code_task, humaneval_instruct, mbpp_instruct_dream
from tabom_cli.core.sandbox import why_unavailable

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))


def humaneval_programs(folder: Path) -> tuple[list[str], list[str]]:
    """Right programs and mutants of all problems."""
    right, wrong = [], []
    for row in read_jsonl(folder / "humaneval/HumanEval.jsonl"):
        code = row["prompt"] + row["canonical_solution"]
        right.append(humaneval_instruct.program(code, row))
        variants = mutations(code, row["entry_point"]).values()
        wrong += [humaneval_instruct.program(variant, row) for variant in variants]
    return right, wrong


def mbpp_programs(folder: Path) -> tuple[list[str], list[str]]:
    right, wrong = [], []
    for row in read_jsonl(folder / "mbpp/mbpp.jsonl"):
        right.append(mbpp_instruct_dream.program(row["code"], row))
        variants = mutations(row["code"], asked_function(row)).values()
        wrong += [mbpp_instruct_dream.program(variant, row) for variant in variants]
    return right, wrong


def asked_function(row: dict[str, Any]) -> str:
    """The function of the solution that its first test calls."""
    defined = {n.name for n in ast.parse(row["code"]).body if isinstance(n, ast.FunctionDef)}
    called = [n.id for n in ast.walk(ast.parse(row["test_list"][0])) if isinstance(n, ast.Name)]
    return next((name for name in called if name in defined), "")


def judged(programs: list[str]) -> list[str]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(code_task.judge, programs))


def check(right: list[str], wrong: list[str]) -> Counter[str]:
    """Judge all programs; returns how the mutants that break an assertion ended."""
    assert set(judged(right)) == {"passed"}
    broken = [
        program for program, breaks in zip(wrong, breaks_an_assertion(wrong), strict=True) if breaks
    ]
    outcomes = Counter(judged(broken))
    assert "passed" not in outcomes
    return outcomes


@pytest.mark.parametrize("programs", [humaneval_programs, mbpp_programs])
def test_mutants_of_a_sample_fail(programs: Any, fixtures: Path) -> None:
    right, wrong = programs(fixtures / "benchmarks")
    assert len(right) >= 3
    assert check(right, wrong).total() >= 3


def test_the_independent_look_tells_broken_from_equal() -> None:
    code = "def f(x):\n    if x > 10 ** 6:\n        return 0\n    return x * 2\n"
    test = "assert f(2) == 4\n"
    variants = mutations(code, "f")
    assert list(variants) == ["return replaced", "off by one"]
    programs = [code + test, *(variant + "\n" + test for variant in variants.values())]
    # 11 ** 6 instead of 10 ** 6 changes nothing that is asserted.
    assert breaks_an_assertion(programs) == [False, True, False]
    assert breaks_an_assertion(["raise ValueError\n", "x = 1\n"]) == [None, None]


@needs_benchmarks
@pytest.mark.slow
@pytest.mark.parametrize(
    ("programs", "total", "enough"), [(humaneval_programs, 164, 164), (mbpp_programs, 974, 974)]
)
def test_all_references_pass_and_their_mutants_fail(programs: Any, total: int, enough: int) -> None:
    right, wrong = programs(real_benchmarks())
    assert len(right) == total
    outcomes = check(right, wrong)
    assert outcomes.total() >= enough
