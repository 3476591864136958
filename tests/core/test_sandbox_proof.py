"""Programs that fail their tests and pretend otherwise, before both judges of generated code."""

from __future__ import annotations

import json

import pytest
from hostile_programs import FORGERIES

from tabom_cli.core import sandbox_proof
from tabom_cli.core.data.verify import verify
from tabom_cli.core.evaluation.tasks import code_task
from tabom_cli.core.sandbox import Limits, why_unavailable
from tabom_cli.core.sandbox_proof import run_to_end

pytestmark = pytest.mark.skipif(
    why_unavailable() is not None, reason=f"no sandbox here: {why_unavailable()}"
)
TEST = "assert f(2) == 4"


def verdict(answer: str) -> str:
    reference = json.dumps({"tests": [TEST], "entry_point": "f"})
    return verify("code", prompt="q", response=answer, reference=reference, task=None, ended=True)


@pytest.mark.parametrize("name", FORGERIES)
def test_an_answer_that_fails_its_tests_cannot_award_itself_a_pass(name: str) -> None:
    assert verdict(FORGERIES[name]) in ("wrong", "error")
    assert code_task.judge(f"{FORGERIES[name]}\n{TEST}\n") in ("failed", "crashed")


@pytest.mark.parametrize("name", [name for name in FORGERIES if name.startswith("prints_the_word")])
def test_the_corpus_holds_forgeries_that_only_the_second_run_finds_out(name: str) -> None:
    program = f"{FORGERIES[name]}\n{TEST}\n"
    for runner in (sandbox_proof.RUNNER, code_task._RUNNER):
        result, word = sandbox_proof._run(program, Limits(), runner)
        assert result.status == "ok"
        assert result.stdout.rstrip().endswith(word)
        assert not run_to_end(program, limits=Limits(), runner=runner)[1]


def test_an_honest_answer_passes_whatever_it_prints() -> None:
    honest = "print('a' * 32)\ndef f(x):\n    print(x)\n    return x * x"
    assert verdict(honest) == "correct"
    assert code_task.judge(f"{honest}\n{TEST}\n") == "passed"
    assert verdict("def f(x):\n    print('b' * 32)\n    return x") == "wrong"
