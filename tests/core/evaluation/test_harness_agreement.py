"""Our scores against those of lm-eval run plainly: by task name, with its own prompts and no tabom code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ifeval_answers
import pytest
from evaluation_helpers import (
    DATA_DIR_VARIABLE,
    needs_benchmarks,
    read_jsonl,
    real_benchmarks,
    write_completions,
)

from tabom_cli.core.evaluation.requests import build_requests
from tabom_cli.core.evaluation.score import score
from tabom_cli.core.evaluation.scores import TaskScore
from tabom_cli.core.evaluation.tasks.base import load_task

FOLDERS = {"gsm8k_cot": "gsm8k", "minerva_math500": "minerva_math", "ifeval": "ifeval"}
"""Where lm-eval keeps the tasks."""


def plain_scores(
    task: str, rows: list[dict[str, Any]], answers: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What lm-eval alone reports for the answers; only its download is replaced by the rows."""
    import datasets
    import lm_eval
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class Answers(LM):
        def generate_until(self, requests: list[Any]) -> list[str]:
            return [answers[request.doc_id] for request in requests]

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            raise AssertionError

        loglikelihood_rolling = loglikelihood

    split = load_task(task).files[0].split
    data = datasets.DatasetDict({split: datasets.Dataset.from_list(rows)})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: data)
    folder = Path(lm_eval.__file__).parent / "tasks" / FOLDERS[task]
    return dict(
        lm_eval.simple_evaluate(
            model=Answers(),
            tasks=[task],
            num_fewshot=0,
            bootstrap_iters=0,
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        )
    )


def our_score(task: str, folder: Path, data_dir: Path, answers: Sequence[str]) -> TaskScore:
    requests, completions = folder / "r.jsonl", folder / "c.jsonl"
    build_requests([task], requests, data_dir=data_dir)
    write_completions(requests, completions, lambda item: answers[item.doc_index])
    (result,) = score(requests, completions)
    return result


def gsm8k_answers(rows: list[dict[str, Any]]) -> list[str]:
    """References, those of other problems, and forms in which models write numbers."""
    numbers = [row["answer"].rpartition("####")[2].strip() for row in rows]
    texts = []
    for index, row in enumerate(rows):
        number, other = numbers[index], numbers[index - 1]
        forms = (
            row["answer"],
            rows[index - 1]["answer"],
            f"So she has 7 left. The answer is {number}.",
            f"The answer is ${number}.00, not {other}.",
            f"#### {number}\n\nQ: And now?\nA: The answer is {other}.",
            "I do not know.",
            "",
        )
        texts.append(forms[index % len(forms)])
    return texts


def math_answers(rows: list[dict[str, Any]]) -> list[str]:
    """References with and without the harness's closing words, those of others, broken LaTeX."""
    final = "Final Answer: The final answer is ${}$. I hope it is correct."
    texts = []
    for index, row in enumerate(rows):
        forms = (
            final.format(row["answer"]),
            final.format(rows[index - 1]["answer"]),
            f"Thus the result is $\\boxed{{{row['answer']}}}$.",
            f"$\\boxed{{{rows[index - 1]['answer']}}}$, so {final.format(row['answer'])}",
            f"$\\frac{{1}}{{{row['answer']}$",
            "",
        )
        texts.append(forms[index % len(forms)])
    return texts


def ifeval_texts(rows: list[dict[str, Any]]) -> list[str]:
    """Built answers, some behind a sentence that only the loose check forgives, those of others."""
    built = [ifeval_answers.answer(row) for row in rows]
    texts = []
    for index, text in enumerate(built):
        forms = (text, f"Sure, here it is:\n{text}", built[index - 1], f"**{text}**", "")
        texts.append(forms[index % len(forms)])
    return texts


def rows_and_answers(task: str, data_dir: Path) -> tuple[list[dict[str, Any]], list[str]]:
    rows = read_jsonl(data_dir / load_task(task).files[0].path)
    if task == "gsm8k_cot":
        return rows, gsm8k_answers(rows)
    if task == "ifeval":
        return rows, ifeval_texts(rows)
    boxed = [{**row, "solution": f"\\boxed{{{row['answer']}}}"} for row in rows]
    return boxed, math_answers(rows)


def compare(task: str, folder: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sample and every metric is the same in both, and both kinds of sample occur."""
    rows, answers = rows_and_answers(task, data_dir)
    ours = our_score(task, folder, data_dir, answers)
    plain = plain_scores(task, rows, answers, monkeypatch)
    metric, _, name = ours.metric.partition(",")
    theirs = {row["doc_id"]: row for row in plain["samples"][task] if row["filter"] == name}
    assert len(ours.samples) == len(theirs) == len(rows)
    for sample in ours.samples:
        row = theirs[sample.doc_index]
        assert sample.score == float(row[metric]), sample
        # Where lm-eval has no filter, our extraction is for the majority vote only.
        assert name == "none" or sample.extracted == row["filtered_resps"][0]
        assert sample.target == str(row["target"])
    reported = plain["results"][task]
    assert ours.metrics == {key: pytest.approx(reported[key], abs=1e-12) for key in ours.metrics}
    assert len(ours.metrics) >= 2
    assert 0 < (ours.num_correct or 0) < ours.num_total


@pytest.mark.parametrize("task", FOLDERS)
def test_a_few_samples_score_as_lm_eval_alone_scores_them(
    task: str, tmp_path: Path, fixtures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(task, tmp_path, fixtures / "benchmarks", monkeypatch)


@needs_benchmarks
@pytest.mark.slow
@pytest.mark.parametrize("task", FOLDERS)
def test_every_sample_of_the_real_benchmark_scores_as_lm_eval_alone_scores_it(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(task, tmp_path, real_benchmarks(), monkeypatch)


@needs_benchmarks
@pytest.mark.slow
def test_built_answers_follow_the_instructions_of_nearly_all_541_prompts(tmp_path: Path) -> None:
    data_dir = real_benchmarks()
    rows = read_jsonl(data_dir / "ifeval/input_data.jsonl")
    built = [ifeval_answers.answer(row) for row in rows]
    own = our_score("ifeval", tmp_path, data_dir, built)
    # Two prompts want the letters # and !, for which the checkers draw others at random.
    assert (own.num_correct or 0) >= 530
    assert own.num_total == 541
    # Some instructions, such as no commas, are followed by chance.
    others = our_score("ifeval", tmp_path, data_dir, built[7:] + built[:7])
    assert (others.num_correct or 0) <= 90


def test_a_run_without_the_real_benchmarks_says_so_at_its_end() -> None:
    environment = {key: value for key, value in os.environ.items() if key != DATA_DIR_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "slow", "-k", "built_answers", __file__],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "NOT RUN: 1 tests on real benchmarks" in done.stdout
    assert f"{DATA_DIR_VARIABLE}=DIR make test-all" in done.stdout
