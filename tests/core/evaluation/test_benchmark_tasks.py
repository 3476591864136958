import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluation_helpers import (
    needs_benchmarks,
    read_jsonl,
    real_benchmarks,
    write_completions,
)

from tabom_cli.core.evaluation.records import Request
from tabom_cli.core.evaluation.requests import build_requests
from tabom_cli.core.evaluation.score import score
from tabom_cli.core.evaluation.scores import TaskScore
from tabom_cli.core.evaluation.sentences import sentence_splitter
from tabom_cli.core.evaluation.tasks import code_task, humaneval_instruct, mbpp_instruct
from tabom_cli.core.evaluation.tasks.mbpp_instruct import benchmark_rows
from tabom_cli.core.sandbox import Limits, SandboxResult, why_unavailable

needs_sandbox = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def data_dir(fixtures: Path) -> Path:
    return fixtures / "benchmarks"


def scored(
    folder: Path, task: str, data_dir: Path, answer: Callable[[int], str]
) -> tuple[TaskScore, list[Request]]:
    requests = build_requests([task], folder / "r.jsonl", data_dir=data_dir)
    write_completions(folder / "r.jsonl", folder / "c.jsonl", lambda item: answer(item.doc_index))
    (result,) = score(folder / "r.jsonl", folder / "c.jsonl", allow_code_execution=True)
    return result, requests


def humaneval(data_dir: Path) -> list[dict[str, Any]]:
    return read_jsonl(data_dir / "humaneval/HumanEval.jsonl")


def mbpp(data_dir: Path) -> list[dict[str, Any]]:
    return benchmark_rows(read_jsonl(data_dir / "mbpp/mbpp.jsonl"))


@needs_sandbox
def test_humaneval_counts_failures_timeouts_and_crashes_apart(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_task, "TIME_LIMIT_S", 1.0)
    right = humaneval(data_dir)[0]["canonical_solution"]
    answers = [right, "    while True:\n        pass\n", "    import os\n    os._exit(0)\n"]
    result, _ = scored(tmp_path, "humaneval_instruct", data_dir, answers.__getitem__)
    assert result.metric == "pass@1,create_test"
    assert (result.num_correct, result.num_total) == (1, 3)
    assert result.metrics["timeouts,create_test"] == 1
    assert result.metrics["crashes,create_test"] == 1
    assert result.metrics["failures,create_test"] == 0
    assert result.counts == {"failures": 0, "timeouts": 1, "crashes": 1}
    assert "sandbox" in result.remarks["code execution"]


@needs_sandbox
def test_humaneval_prompts_differ_as_the_release_and_the_harness_do(
    tmp_path: Path, data_dir: Path
) -> None:
    rows = humaneval(data_dir)

    def answer(index: int) -> str:
        return rows[index]["canonical_solution"] + "\n```\nThis works because of algebra."

    harness, own = (
        scored(tmp_path, name, data_dir, answer)
        for name in ("humaneval_instruct", "humaneval_instruct_dream")
    )
    assert harness[0].num_correct == own[0].num_correct == 3
    prompt = rows[0]["prompt"]
    intro = "Write a solution to the following problem and make sure that it passes the tests:\n"
    assert harness[1][0].messages[0].content == f"{intro}```python\n{prompt}\n```\n"
    assert own[1][0].messages[0].content == f"{intro}```{prompt.rstrip()}" + "\n"
    for requests in (harness[1], own[1]):
        assert requests[0].gen_prefix == f"Here is the completed function:\n```python\n{prompt}\n"
        assert requests[0].until == ("\nclass", "\ndef", "\n#", "\nif", "\nprint")


@needs_sandbox
def test_mbpp_keeps_the_setup_code_in_our_task_only(tmp_path: Path, data_dir: Path) -> None:
    rows = mbpp(data_dir)
    assert [row["task_id"] for row in rows] == [11, 367]
    own, requests = scored(
        tmp_path, "mbpp_instruct_dream", data_dir, lambda index: rows[index]["code"] + "\n"
    )
    assert (own.metric, own.num_correct) == ("pass_at_1,none", 2)
    assert requests[0].messages[0].content == (
        "You are an expert Python programmer, and here is your task: "
        "Write a function to square a number. Your code should pass these tests:\n\n"
        "assert square(2) == 4\nassert square(0) == 0\nassert square(-3) == 9"
    )
    assert requests[0].gen_prefix == "Here is the completed function:\n```python\n"
    assert requests[0].until == ("```",)
    theirs, requests = scored(
        tmp_path, "mbpp_instruct", data_dir, lambda index: "\n" + rows[index]["code"] + "\n```"
    )
    assert (theirs.metric, theirs.num_correct) == ("pass_at_1,extract_code", 1)
    assert theirs.metrics["failures,extract_code"] == 1
    assert requests[0].gen_prefix == "\n```python\n"
    assert requests[0].max_new_tokens == 256


def test_mbpp_shots_are_the_rows_the_harness_uses(tmp_path: Path, data_dir: Path) -> None:
    (first, _) = build_requests(
        ["mbpp_instruct"], tmp_path / "r.jsonl", data_dir=data_dir, num_fewshot=2
    )
    turns = [message.content for message in first.messages]
    assert len(turns) == 5
    assert "add two numbers" in turns[0]
    assert turns[1] == "\n```python\ndef add(a, b):\n    return a + b\n```"
    assert "negate" in turns[2]


def test_mbpp_extraction_eats_the_first_word_as_the_harness_does() -> None:
    assert mbpp_instruct.extract("\nx = 1\n```", {}) == "x = 1"
    assert mbpp_instruct.extract("python\nx = 1\n```\ntext", {}) == "x = 1"
    assert mbpp_instruct.extract("def f(): pass\n```", {}) == " f(): pass"
    assert mbpp_instruct.extract("\nx = 1", {}) == ""


@needs_sandbox
def test_a_program_that_ends_early_or_prints_much_does_not_deceive_the_judge() -> None:
    assert code_task.judge("x = 1\nassert x == 1\n") == "passed"
    assert code_task.judge("import sys\nsys.exit(0)\nassert False\n") == "crashed"
    assert code_task.judge("raise SystemExit(0)\n") == "crashed"
    assert code_task.judge("print('a' * 1000000)\n") == "passed"
    assert code_task.judge("if __name__ == '__main__':\n    input()\n") == "passed"
    assert code_task.judge("def f(:\n") == "failed"
    assert code_task.judge("bytearray(4 * 2**30)\n") == "crashed"
    assert (
        code_task.judge("import socket\nsocket.create_connection(('127.0.0.1', 9))\n") == "failed"
    )


@pytest.mark.parametrize(("load", "runs"), [(0.5, 1), (99.0, 2)])
def test_a_timeout_counts_at_once_unless_the_machine_is_overloaded(
    monkeypatch: pytest.MonkeyPatch, load: float, runs: int
) -> None:
    seen: list[str] = []

    def run_python(source: str, *, limits: Limits) -> SandboxResult:
        seen.append(source)
        return SandboxResult("timeout", -9, "", "", limits.time_s)

    monkeypatch.setattr("tabom_cli.core.sandbox_proof.run_python", run_python)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    assert code_task.judge(f"while True: {load}") == "timeout"
    assert len(seen) == runs


@needs_sandbox
def test_judge_agrees_with_a_plain_subprocess(data_dir: Path) -> None:
    for row in humaneval(data_dir):
        for body in (row["canonical_solution"], "    return None\n", "    return 1/0\n"):
            program = humaneval_instruct.program(row["prompt"] + body, row)
            plain = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, check=False, timeout=20
            )
            assert (code_task.judge(program) == "passed") == (plain.returncode == 0)


def test_math500_without_solutions_scores_its_references(tmp_path: Path, data_dir: Path) -> None:
    answers = [row["answer"] for row in read_jsonl(data_dir / "math500/test.jsonl")]
    final = "Final Answer: The final answer is ${}$. I hope it is correct."
    right, requests = scored(
        tmp_path, "minerva_math500", data_dir, lambda index: final.format(answers[index])
    )
    assert right.metric == "math_verify,none"
    assert right.num_correct == 4
    assert right.metrics["exact_match,none"] == 1.0
    assert requests[0].messages[0].content.startswith("Problem:\nWhat is half of")
    assert requests[0].until == ("Problem:",)
    wrong, _ = scored(
        tmp_path, "minerva_math500", data_dir, lambda index: final.format(answers[index - 1])
    )
    assert wrong.num_correct == 0


def test_ifeval_scores_answers_built_for_its_checkers(tmp_path: Path, data_dir: Path) -> None:
    right = [
        "Rain is water that falls from clouds.",
        "Snow is cold. Dr. Berg likes it. It melts in spring.",
        "WIND is moving AIR.",
        "the fog is a cloud that lies on the ground and hides the road from the driver",
    ]
    wrong = ["Rain, water.", "Snow is cold. Dr. Berg likes it.", "WIND is air.", "The fog, a cloud"]
    result, requests = scored(tmp_path, "ifeval", data_dir, right.__getitem__)
    assert result.metric == "prompt_level_loose_acc,none"
    assert result.num_correct == 4
    assert result.remarks["sentence splitter"] == sentence_splitter()[0]
    assert requests[0].until == ()
    assert scored(tmp_path, "ifeval", data_dir, wrong.__getitem__)[0].num_correct == 0


def test_sentences_are_split_behind_abbreviations_without_a_download() -> None:
    name, split = sentence_splitter()
    assert len(split("It is cold. Dr. Berg likes it.")) == 2
    assert "nltk" in name


def references(task: str, data_dir: Path) -> list[str]:
    """The reference of every problem as a model would answer it."""
    if task == "gsm8k_cot":
        return [row["answer"] for row in read_jsonl(data_dir / "gsm8k/test.jsonl")]
    if task == "minerva_math500":
        from lm_eval.tasks.minerva_math.utils import normalize_final_answer

        # The harness's own references are its normalised answers.
        final = "Final Answer: The final answer is ${}$. I hope it is correct."
        rows = read_jsonl(data_dir / "math500/test.jsonl")
        return [final.format(normalize_final_answer(row["answer"])) for row in rows]
    if task.startswith("humaneval"):
        return [row["canonical_solution"] for row in humaneval(data_dir)]
    return ["\n" + row["code"] + "\n```" for row in mbpp(data_dir)]


@needs_benchmarks
@needs_sandbox
@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "correct", "total", "exact"),
    [
        ("gsm8k_cot", 1319, 1319, None),
        ("minerva_math500", 491, 500, "exact_match,none"),
        ("humaneval_instruct", 164, 164, None),
        ("humaneval_instruct_dream", 164, 164, None),
        ("mbpp_instruct", 499, 500, None),
        ("mbpp_instruct_dream", 500, 500, None),
    ],
)
def test_references_of_the_real_benchmarks_reach_their_known_scores(
    tmp_path: Path, task: str, correct: int, total: int, exact: str | None
) -> None:
    answers = references(task, real_benchmarks())
    result, _ = scored(tmp_path, task, real_benchmarks(), answers.__getitem__)
    assert (result.num_correct, result.num_total) == (correct, total)
    assert exact is None or result.metrics[exact] == 1.0


@needs_benchmarks
@needs_sandbox
@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "most"),
    [
        ("gsm8k_cot", 40),
        ("minerva_math500", 15),
        ("humaneval_instruct", 0),
        ("humaneval_instruct_dream", 0),
        ("mbpp_instruct", 8),
        ("mbpp_instruct_dream", 8),
    ],
)
def test_references_of_other_problems_score_at_chance_level(
    tmp_path: Path, task: str, most: int
) -> None:
    answers = references(task, real_benchmarks())
    others = answers[7:] + answers[:7]
    result, _ = scored(tmp_path, task, real_benchmarks(), others.__getitem__)
    assert result.num_correct is not None
    assert result.num_correct <= most


@needs_benchmarks
@needs_sandbox
@pytest.mark.slow
def test_all_974_mbpp_solutions_pass_with_their_setup() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from tabom_cli.core.evaluation.tasks import mbpp_instruct_dream

    rows = read_jsonl(real_benchmarks() / "mbpp/mbpp.jsonl")
    programs = [mbpp_instruct_dream.program(row["code"], row) for row in rows]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(code_task.judge, programs))
    wrong = [row["task_id"] for row, seen in zip(rows, outcomes, strict=True) if seen != "passed"]
    assert (len(rows), wrong) == (974, [])
