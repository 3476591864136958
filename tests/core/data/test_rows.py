"""Training rows: which ids are kept, which text is tokenised, and that batches equal single rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tabom_cli.assets import tiny_path
from tabom_cli.assets.tasks import problems
from tabom_cli.core.data.config import DataConfig, GenerateConfig
from tabom_cli.core.data.rows import load_rows, training_rows
from tabom_cli.core.data.trajectory import Trajectory
from tabom_cli.core.errors import DataError, ModelError, RecipeError
from tabom_cli.core.models.template import render_prompt, response_ids, template_hash
from tabom_cli.core.models.template_batch import render_prompts, response_ids_of

LLADA_LIKE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n'"
    " + message['content'] | trim + '<|im_end|>' }}{% endfor %}"
    "{{ '<|im_start|>assistant\\n' }}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return PreTrainedTokenizerFast.from_pretrained(str(tiny_path()))


def config_of(**changes: object) -> DataConfig:
    values = {"path": "t.jsonl", "max_prompt_length": 64, "response_length": 4}
    return DataConfig(**values | changes)  # type: ignore[arg-type]


def trajectory(**changes: object) -> Trajectory:
    values: dict[str, object] = {
        "id": "a-0",
        "group_id": "a",
        "prompt": "Use 3, 4 to make 7.",
        "response": "3 + 4 = 7",
        "response_token_ids": [11, 12, 13, 0, 0, 0],
        "decoding_order": [2, 0, 1, 3, -1, -1],
        "decoding_entropy": [0.5, 0.25, 0.0, 0.125, -1.0, -1.0],
        "non_ltr_positions": [1, 2, 5],
        "reward": 1.0,
    }
    return Trajectory(**values | changes)  # type: ignore[arg-type]


def test_recorded_ids_and_orders_are_kept_and_cut_to_the_response_length(tokenizer: Any) -> None:
    row = training_rows([trajectory()], tokenizer, config_of())[0]
    assert row.response_token_ids == (11, 12, 13, 0)
    assert row.decoding_order == (2, 0, 1, 3)
    assert row.decoding_entropy == (0.5, 0.25, 0.0, 0.125)
    assert row.non_ltr_positions == (1, 2)
    assert (row.sample_id, row.group_id, row.reward) == ("a-0", "a", 1.0)
    expected = render_prompt(tokenizer, "Use 3, 4 to make 7.", max_length=64)
    assert row.prompt_token_ids == tuple(expected)


def test_entropies_of_tokens_never_decoded_are_not_numbers(tokenizer: Any) -> None:
    row = training_rows([trajectory()], tokenizer, config_of(response_length=6))[0]
    assert row.decoding_entropy is not None
    assert [math.isnan(value) for value in row.decoding_entropy] == [False] * 4 + [True] * 2


def test_recorded_prompt_ids_need_the_same_template_and_must_fit(tokenizer: Any) -> None:
    own = template_hash(tokenizer)
    kept = trajectory(prompt_token_ids=[1, 5, 6], template_hash=own)
    other = trajectory(prompt_token_ids=[1, 5, 6], template_hash="0" * 16)
    long = trajectory(prompt_token_ids=[5] * 65, template_hash=own)
    rows = training_rows([kept, other, long], tokenizer, config_of())
    rendered = tuple(render_prompt(tokenizer, kept.prompt, max_length=64))
    assert [row.prompt_token_ids for row in rows] == [(1, 5, 6), rendered, rendered]


def test_the_text_path_tokenises_the_answer_and_drops_the_order(tokenizer: Any) -> None:
    row = training_rows(
        [trajectory()], tokenizer, config_of(use_token_ids=False, response_length=64)
    )[0]
    expected = response_ids(tokenizer, "Use 3, 4 to make 7.", "3 + 4 = 7")
    assert row.response_token_ids == tuple(expected)
    assert row.decoding_order is None
    assert row.non_ltr_positions == ()


@pytest.mark.parametrize("max_length", [12, 20, 24, 28, 64])
@pytest.mark.parametrize("template", [None, LLADA_LIKE])
def test_batches_of_prompts_and_answers_equal_single_ones(
    tokenizer: Any, max_length: int, template: str | None
) -> None:
    own = PreTrainedTokenizerFast.from_pretrained(str(tiny_path()))
    own.chat_template = template or tokenizer.chat_template
    made = problems(["countdown", "arithmetic", "functions"], split="train", num_problems=30)
    texts = [p.prompt for p in made] + ["a", " padded ", "x " * 40]
    answers = [p.answer for p in made] + ["b", " c ", ""]
    assert render_prompts(own, texts, max_length=max_length) == [
        render_prompt(own, text, max_length=max_length) for text in texts
    ]
    assert response_ids_of(own, texts, answers) == [
        response_ids(own, text, answer) for text, answer in zip(texts, answers, strict=True)
    ]
    assert render_prompts(own, [], max_length=max_length) == response_ids_of(own, [], []) == []


def test_a_template_that_rewrites_the_prompt_is_refused() -> None:
    own = PreTrainedTokenizerFast.from_pretrained(str(tiny_path()))
    own.chat_template = "{{ messages | length }}{% if add_generation_prompt %}>{% endif %}"
    with pytest.raises(ModelError, match="renders the prompt differently"):
        response_ids_of(own, ["a"], ["b"])


def test_generated_problems_become_rows_with_their_answers(tokenizer: Any) -> None:
    generate = GenerateConfig(tasks=("countdown", "arithmetic"), num_problems=8, seed=3)
    config = config_of(path=None, generate=generate, use_token_ids=False, response_length=64)
    rows, report = load_rows(
        config, tokenizer, objective="nelbo", family="dream", needs_order=False
    )
    expected = problems(["countdown", "arithmetic"], split="train", num_problems=8, seed=3)
    assert [row.sample_id for row in rows] == [problem.id for problem in expected]
    for row, problem in zip(rows, expected, strict=True):
        assert row.prompt_token_ids == tuple(
            render_prompt(tokenizer, problem.prompt, max_length=64)
        )
        answer = tuple(response_ids(tokenizer, problem.prompt, problem.answer))
        assert row.response_token_ids == answer[:64]
    assert report.num_rows == 8


def test_an_objective_that_needs_orders_refuses_sources_without_them(tokenizer: Any) -> None:
    generate = GenerateConfig(tasks=("countdown",), num_problems=2)
    for config in (config_of(path=None, generate=generate), config_of(use_token_ids=False)):
        with pytest.raises(RecipeError, match="needs decoding orders"):
            load_rows(config, tokenizer, objective="tabom", family="dream", needs_order=True)


def test_a_null_method_filter_means_entropy_for_tabom_only(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    made = [trajectory(id=m, method=m) for m in ("entropy", "default")]
    path.write_text("".join(json.dumps(row.model_dump()) + "\n" for row in made))
    config = config_of(path=str(path))

    def ids(objective: str, family: str) -> list[str]:
        rows, _ = load_rows(config, tokenizer, objective=objective, family=family, needs_order=True)
        return [row.sample_id for row in rows]

    assert ids("tabom", "dream") == ["entropy"]
    assert ids("tabom", "llada") == ["entropy", "default"]
    assert ids("nelbo", "dream") == ["entropy", "default"]


def test_ids_outside_the_vocabulary_and_a_missing_file_are_errors(
    tokenizer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    config = config_of(path=str(path), source="the archive")
    options = {"objective": "nelbo", "family": "dream", "needs_order": False, "recipe": "tiny"}
    with pytest.raises(DataError) as caught:
        load_rows(config, tokenizer, **options)  # type: ignore[arg-type]
    assert "tabom distill --recipe tiny" in str(caught.value.hint)
    assert "the archive" in str(caught.value.hint)
    path.write_text(json.dumps(trajectory().model_dump()) + "\n")
    with pytest.raises(DataError, match="item 2 is 13: outside the vocabulary"):
        load_rows(config, tokenizer, vocab_size=13, **options)  # type: ignore[arg-type]
