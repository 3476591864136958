"""The tiny model's tokenizer and config: any text round-trips, budgets hold, ids agree."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tabom_cli.assets import tiny_path
from tabom_cli.assets.tasks import problems, task_names

MAX_PROMPT_TOKENS = 64
MAX_ANSWER_TOKENS = 56


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(tiny_path())


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return json.loads((tiny_path() / "config.json").read_text())


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_any_text_round_trips(tokenizer: Any) -> None:
    rng = random.Random(0)
    ranges = ((32, 127), (0, 32), (0xA0, 0x2FF), (0x3000, 0x9FFF), (0x1F300, 0x1FAFF), (9, 14))
    for _ in range(3000):
        text = "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randint(0, 40)))
        assert tokenizer.decode(_ids(tokenizer, text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n    if x > 3:\n        return -x\n\n\treturn [x ** 2 for x in y][::-1]\r\n",
        "  leading and trailing  ",
        "don't  you 're it's",
        "1234567890 3.14 -5",
        "",
        "\n\n\n   \n",
        "<|im_start|>user\nhi<|im_end|>",
    ],
)
def test_code_and_layout_round_trip(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(_ids(tokenizer, text)) == text


def test_digits_stay_single_and_look_the_same_everywhere(tokenizer: Any) -> None:
    digits = {_ids(tokenizer, str(digit))[0] for digit in range(10)}
    assert len(digits) == 10
    for text in ("12 * 34 = 408", "The answer is 408", "has 408 pens", "f(408)", "x[408]", "\n408"):
        pieces = [tokenizer.decode([token]) for token in _ids(tokenizer, text)]
        assert all(len(piece.strip()) == 1 for piece in pieces if any(map(str.isdigit, piece)))
        assert sum(token in digits for token in _ids(tokenizer, text)) == sum(
            map(str.isdigit, text)
        )


@pytest.mark.parametrize("task", task_names())
def test_prompts_and_answers_keep_their_budgets(tokenizer: Any, task: str) -> None:
    for problem in problems([task], split="train", num_problems=3000, seed=7):
        turn = {"role": "user", "content": problem.prompt}
        prompt = tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
        both = tokenizer.apply_chat_template(
            [turn, {"role": "assistant", "content": problem.answer}], tokenize=False
        )
        assert both.startswith(prompt)
        ids, rest = _ids(tokenizer, prompt), _ids(tokenizer, both)
        assert rest[: len(ids)] == ids
        assert len(ids) <= MAX_PROMPT_TOKENS
        assert len(rest) - len(ids) <= MAX_ANSWER_TOKENS
        assert tokenizer.decode(rest[-1:]) == "<|im_end|>"
        assert tokenizer.decode(rest[len(ids) : -1]) == problem.answer


def test_template_shows_roles_and_ends_open_for_the_answer(tokenizer: Any) -> None:
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "r"},
    ]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
        "<|im_start|>assistant\na<|im_end|>\n<|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\n"
    )


def test_special_ids_agree_with_the_config(tokenizer: Any, config: dict[str, Any]) -> None:
    assert tokenizer.mask_token == "<|mask|>"
    assert tokenizer.mask_token_id == config["mask_token_id"]
    assert tokenizer.eos_token_id == config["eos_token_id"] == config["bos_token_id"]
    assert tokenizer.pad_token_id == config["pad_token_id"] == tokenizer.eos_token_id
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") != tokenizer.unk_token_id
    assert len(tokenizer) <= config["vocab_size"] < len(tokenizer) + 8
    assert config["vocab_size"] % 8 == 0


def test_model_has_one_to_four_million_parameters(config: dict[str, Any]) -> None:
    width, inner = config["hidden_size"], config["intermediate_size"]
    shared = config["num_key_value_heads"] * width // config["num_attention_heads"]
    attention = width * width + width + 2 * (width * shared + shared) + width * width
    layer = attention + 3 * width * inner + 2 * width
    total = config["num_hidden_layers"] * layer + 2 * config["vocab_size"] * width + width
    assert 1_000_000 < total < 4_000_000
    assert (config["model_type"], width, config["num_hidden_layers"]) == ("Dream", 192, 5)
