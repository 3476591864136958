"""MMLU, MMLU-Pro and GPQA with generated answers, on invented rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluation_helpers import write_completions

from tabom_cli.core.errors import DataError, UsageError
from tabom_cli.core.evaluation.config import EvalConfig
from tabom_cli.core.evaluation.plan import plan_tasks
from tabom_cli.core.evaluation.records import Request
from tabom_cli.core.evaluation.requests import build_requests
from tabom_cli.core.evaluation.score import score
from tabom_cli.core.evaluation.scores import TaskScore
from tabom_cli.core.evaluation.tasks.base import load_task
from tabom_cli.core.evaluation.tasks.gpqa_main_generative_n_shot import with_options


def mmlu_row(subject: str, number: int, answer: int) -> dict[str, Any]:
    choices = [f"{number} {word}" for word in ("cats", "dogs", "cows", "hens")]
    question = f"Which farm of {subject} is number {number}?"
    return {"question": question, "subject": subject, "choices": choices, "answer": answer}


def pro_row(category: str, number: int, answer: str) -> dict[str, Any]:
    return {
        "question": f"Which barn of {category} is number {number}?",
        "options": [f"barn {letter}" for letter in "abcdefghij"],
        "answer": answer,
        "category": category,
        "cot_content": f"A: Let's think step by step. Barns count. The answer is ({answer}).",
    }


def gpqa_row(number: int) -> dict[str, Any]:
    wrong = {f"Incorrect Answer {i}": f"wrong {number}.{i}" for i in (1, 2, 3)}
    return {"Question": f"What is atom {number}?", "Correct Answer": f" right {number} ", **wrong}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write(
        folder / "mmlu/test.jsonl",
        [mmlu_row("farm_law", 1, 2), mmlu_row("sea", 2, 0), mmlu_row("farm_law", 3, 3)],
    )
    shots = [mmlu_row(s, n, n % 4) for n in range(10, 15) for s in ("sea", "farm_law")]
    write(folder / "mmlu/dev.jsonl", shots)
    write(folder / "mmlu_pro/test.jsonl", [pro_row("law", 1, "J"), pro_row("math", 2, "B")])
    shots = [pro_row(c, n, "C") for n in range(10, 15) for c in ("math", "law")]
    write(folder / "mmlu_pro/validation.jsonl", shots)
    write(folder / "gpqa/gpqa_main.jsonl", [gpqa_row(number) for number in range(8)])
    return folder


def scored(
    task: str, data_dir: Path, num_fewshot: int, answer: Callable[[Request], str]
) -> tuple[TaskScore, list[Request]]:
    path = data_dir / "r.jsonl"
    requests = build_requests([task], path, data_dir=data_dir, num_fewshot=num_fewshot)
    write_completions(path, data_dir / "c.jsonl", answer)
    (result,) = score(path, data_dir / "c.jsonl")
    return result, requests


def test_mmlu_shows_examples_of_the_same_subject_and_takes_the_letter(data_dir: Path) -> None:
    letters = {0: "C", 1: " a\nmore", 2: "B"}
    result, requests = scored("mmlu_generative", data_dir, 4, lambda item: letters[item.doc_index])
    assert (result.num_correct, result.num_total) == (2, 3)
    messages = requests[0].messages
    assert [m.role for m in messages] == ["system"] + 4 * ["user", "assistant"] + ["user"]
    assert messages[0].content.strip().endswith("(with answers) about farm law.")
    assert all("farm_law" in m.content for m in messages[1::2])
    assert [m.content.strip() for m in messages[2::2]] == ["C", "D", "A", "B"]
    assert messages[-1].content == (
        "Which farm of farm_law is number 1?\nA. 1 cats\nB. 1 dogs\nC. 1 cows\nD. 1 hens\nAnswer:"
    )
    assert all("sea" in m.content for m in requests[1].messages[1::2])


def test_mmlu_pro_reasons_and_takes_the_letter_after_the_phrase(data_dir: Path) -> None:
    answers = {0: "Barns. The answer is (J).", 1: "The answer is (C)."}
    result, requests = scored("mmlu_pro", data_dir, 4, lambda item: answers[item.doc_index])
    assert (result.num_correct, result.num_total) == (1, 2)
    assert [sample.extracted for sample in result.samples] == ["J", "C"]
    messages = requests[0].messages
    assert len(messages) == 10
    assert "about law. Think step by step" in messages[0].content
    assert all("barn of law" in m.content for m in messages[1::2])
    assert messages[2].content.strip() == "Barns count. The answer is (C)."
    assert messages[-1].content.endswith("J. barn j\nAnswer: Let's think step by step.")
    assert requests[0].until == ("Question:",)


def test_gpqa_orders_options_by_the_question_and_takes_the_last_letter(data_dir: Path) -> None:
    expected = [with_options(gpqa_row(number))["answer"] for number in range(8)]
    result, requests = scored(
        "gpqa_main_generative_n_shot",
        data_dir,
        5,
        lambda item: f"(A) or so. The answer is {expected[item.doc_index]}.",
    )
    assert (result.num_correct, result.num_total) == (8, 8)
    assert len(set(expected)) > 1
    messages = requests[0].messages
    assert [m.role for m in messages] == ["system"] + 5 * ["user", "assistant"] + ["user"]
    assert "atom 0" in messages[-1].content
    assert not any("atom 0" in m.content for m in messages[:-1])


def test_gpqa_options_hold_the_right_one_at_the_answers_letter() -> None:
    for number in range(20):
        row = with_options(gpqa_row(number))
        place = "ABCD".index(row["answer"][1])
        assert row[f"choice{place + 1}"] == f"right {number}"
        assert sorted(row["choices"])[0] == f"right {number}"
        assert with_options(gpqa_row(number)) == row


def test_too_few_examples_of_a_subject_are_refused(data_dir: Path) -> None:
    with pytest.raises(DataError, match="5 examples with subject 'farm_law', need 6"):
        build_requests(["mmlu_generative"], data_dir / "r.jsonl", data_dir=data_dir, num_fewshot=6)


@pytest.mark.parametrize("family", ["dream", "llada"])
def test_release_profiles_have_the_published_lengths_and_shots(family: str) -> None:
    tasks = ["mmlu_generative", "mmlu_pro", "gpqa_main_generative_n_shot"]
    config = EvalConfig(profile="release")
    plans = plan_tasks([load_task(task) for task in tasks], config, family=family)
    found = [(p.decode.max_new_tokens, p.decode.steps, p.num_fewshot) for p in plans]
    assert found == [(128, 128, 4), (128, 128, 4), (256, 256, 5)]


@pytest.mark.parametrize(
    "name", ["mmlu", "mmlu_anatomy", "arc_challenge", "gpqa_main_n_shot", "lambada_openai", "piqa"]
)
def test_loglikelihood_tasks_of_the_harness_are_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"task '{name}' needs log-likelihoods"):
        load_task(name)


@pytest.mark.parametrize("name", ["mmlu_anatomy_generative", "gpqa_diamond_cot_n_shot", "gsm9k"])
def test_tasks_that_generate_are_only_unknown(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown task '{name}'"):
        load_task(name)
