"""Rendering prompts, answers and texts with both families' published templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.template import (
    render_prompt,
    response_ids,
    response_text,
    template_hash,
)
from tabom_cli.core.models.tokenizers import load_tokenizer


@pytest.fixture(scope="module")
def dream(request: pytest.FixtureRequest) -> Any:
    folder: Path = request.getfixturevalue("fixtures")
    return load_tokenizer(folder / "checkpoints" / "Dream-v0-Instruct-7B")


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    folder: Path = request.getfixturevalue("fixtures")
    return json.loads((folder / "tokenizer" / "chat_templates.json").read_text())["cases"]


def test_prompts_render_as_the_published_templates_do(
    dream: Any, llada_tokenizer: Any, cases: list[dict[str, Any]]
) -> None:
    for case in cases:
        ids = render_prompt(dream, case["messages"], max_length=None)
        assert dream.decode(ids) == case["dream_add_generation_prompt"]
        ids = render_prompt(llada_tokenizer, case["messages"], max_length=None)
        assert llada_tokenizer.decode(ids) == case["llada"]


def test_dream_prompt_ids_equal_the_reference(dream: Any, fixtures: Path) -> None:
    chat = json.loads((fixtures / "tokenizer" / "dream_tokenizer.json").read_text())["chat"]
    expected = chat["ids_with_generation_prompt"]
    assert render_prompt(dream, chat["messages"], max_length=None) == expected
    assert render_prompt(dream, "What is 2+2?", max_length=None) == expected


def test_llada_special_tokens_have_their_published_ids(llada_tokenizer: Any) -> None:
    ids = render_prompt(llada_tokenizer, "hi", max_length=None)
    assert ids[:2] == [126080, 126346]
    assert ids.count(126347) == 2
    assert ids.count(126348) == 1
    assert llada_tokenizer.mask_token_id is None
    assert llada_tokenizer.convert_tokens_to_ids("<|mdm_mask|>") == 126336


def test_dream_answer_ends_with_its_turn_marker_and_newline(dream: Any) -> None:
    assert response_ids(dream, "What is 2+2?", "4") == [19, 151645, 198]


def test_llada_answer_loses_the_stray_assistant_header(llada_tokenizer: Any) -> None:
    ids = response_ids(llada_tokenizer, "What is 2+2?", "4")
    assert llada_tokenizer.decode(ids) == "4<|eot_id|>"
    assert ids[-1] == 126348


def test_prompt_and_answer_ids_joined_equal_the_whole_conversation(
    dream: Any, llada_tokenizer: Any
) -> None:
    messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So it is."}]
    whole = dream.apply_chat_template(messages, tokenize=True, return_dict=False)
    joined = render_prompt(dream, "Why?", max_length=None) + response_ids(
        dream, "Why?", "So it is."
    )
    assert joined == whole
    whole = llada_tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    joined = render_prompt(llada_tokenizer, "Why?", max_length=None)
    joined += response_ids(llada_tokenizer, "Why?", "So it is.")
    assert whole[: len(joined)] == joined
    assert llada_tokenizer.decode(whole[len(joined) :]).startswith("<|start_header_id|>assistant")


def test_a_long_prompt_keeps_its_head_and_the_whole_template(dream: Any) -> None:
    words = " ".join(f"word{number}" for number in range(400))
    overhead = len(render_prompt(dream, " ", max_length=None))
    ids = render_prompt(dream, words, max_length=64)
    text = dream.decode(ids)
    assert abs(len(ids) - 64) <= 3
    assert text.startswith("<|im_start|>system\n")
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    kept = dream(words, add_special_tokens=False)["input_ids"][: 64 - overhead]
    assert dream.decode(kept) in text


def test_a_prompt_within_the_budget_is_untouched(dream: Any) -> None:
    whole = render_prompt(dream, "short", max_length=None)
    assert render_prompt(dream, "short", max_length=256) == whole


def test_a_budget_below_the_template_keeps_one_token_of_the_prompt(dream: Any) -> None:
    ids = render_prompt(dream, "one two three four", max_length=1)
    assert "user\none<|im_end|>" in dream.decode(ids)


def test_only_the_last_user_turn_is_cut(dream: Any) -> None:
    messages = [
        {"role": "user", "content": "first question"},
        {"role": "assistant", "content": "first answer"},
        {"role": "user", "content": "x " * 200},
    ]
    text = dream.decode(render_prompt(dream, messages, max_length=60))
    assert "first question" in text
    assert "first answer" in text
    assert text.count(" x") < 60


def test_tail_keeps_the_last_ids(dream: Any) -> None:
    whole = render_prompt(dream, "x " * 200, max_length=None)
    assert render_prompt(dream, "x " * 200, max_length=50, keep="tail") == whole[-50:]


def test_a_generation_prefix_stands_inside_the_assistant_turn(dream: Any) -> None:
    ids = render_prompt(dream, "Write f.", max_length=None, gen_prefix="```python\n")
    assert dream.decode(ids).endswith("<|im_start|>assistant\n```python\n")


def test_text_ends_before_the_first_end_id_and_keeps_other_special_tokens(dream: Any) -> None:
    ids = dream("a<|im_start|>b<|im_end|>c<|endoftext|>")["input_ids"]
    assert response_text(dream, ids, {151643, 151645}) == "a<|im_start|>b"
    assert response_text(dream, ids, {151643}) == "a<|im_start|>b<|im_end|>c"
    assert response_text(dream, [], {151643}) == ""


def test_hash_follows_the_template(dream: Any, llada_tokenizer: Any) -> None:
    assert template_hash(dream) == template_hash(dream)
    assert template_hash(dream) != template_hash(llada_tokenizer)
    assert len(template_hash(dream)) == 16


class _Plain:
    """A tokenizer without a template, or with one that rewrites history."""

    def __init__(self, template: str | None) -> None:
        self.chat_template = template

    def apply_chat_template(
        self, messages: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        assert tokenize is False
        return f"{len(messages)} messages"


def test_a_tokenizer_without_template_is_refused() -> None:
    with pytest.raises(ModelError, match="no chat template"):
        render_prompt(_Plain(None), "hi", max_length=None)


def test_a_template_that_rewrites_the_prompt_is_refused() -> None:
    with pytest.raises(ModelError, match="differently"):
        response_ids(_Plain("x"), "hi", "there")
