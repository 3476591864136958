"""Dream's tokenizer against the reference's recorded ids and texts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.tokenizers import DreamTokenizer, load_tokenizer


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    folder: Path = request.getfixturevalue("fixtures")
    return json.loads((folder / "tokenizer" / "dream_tokenizer.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def dream(request: pytest.FixtureRequest) -> Any:
    folder: Path = request.getfixturevalue("fixtures")
    return load_tokenizer(folder / "checkpoints" / "Dream-v0-Instruct-7B")


def test_dream_ids_texts_and_skipped_texts_equal_the_reference(
    dream: Any, golden: dict[str, Any]
) -> None:
    assert len(golden["strings"]) > 30
    for text, ids, decoded, skipped in zip(
        golden["strings"],
        golden["input_ids"],
        golden["decoded"],
        golden["decoded_skip_special"],
        strict=True,
    ):
        assert dream(text)["input_ids"] == ids
        assert dream.decode(ids) == decoded
        assert dream.decode(ids, skip_special_tokens=True) == skipped


def test_skipping_special_tokens_keeps_the_turn_markers(dream: Any) -> None:
    ids = dream("<|im_start|>user\nhi<|im_end|><|mask|><|endoftext|>")["input_ids"]
    assert dream.decode(ids, skip_special_tokens=True) == "<|im_start|>user\nhi<|im_end|>"


def test_dream_special_ids_and_length_equal_the_reference(
    dream: Any, golden: dict[str, Any]
) -> None:
    expected = golden["special_ids"]
    assert len(dream) == expected["len"]
    assert dream.mask_token_id == expected["mask"]
    assert dream.bos_token_id == expected["bos"]
    assert dream.eos_token_id == expected["eos"]
    assert dream.pad_token_id == expected["pad"]
    assert dream.convert_tokens_to_ids("<|im_end|>") == expected["im_end"]


def test_dream_pads_on_the_left(dream: Any) -> None:
    rows = dream(["one", "one two three"], padding=True)["input_ids"]
    assert rows[0][0] == dream.pad_token_id
    assert rows[0][-1] != dream.pad_token_id


def test_auto_tokenizer_finds_the_class_without_remote_code(fixtures: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(fixtures / "checkpoints" / "Dream-v0-Instruct-7B")
    assert isinstance(tokenizer, DreamTokenizer)
    assert tokenizer.padding_side == "left"


def test_a_saved_tokenizer_loads_again_with_equal_ids_and_no_remote_code(
    dream: Any, golden: dict[str, Any], tmp_path: Path
) -> None:
    dream.save_pretrained(tmp_path)
    assert "auto_map" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
    again = load_tokenizer(tmp_path)
    for text, ids, skipped in zip(
        golden["strings"], golden["input_ids"], golden["decoded_skip_special"], strict=True
    ):
        assert again(text)["input_ids"] == ids
        assert again.decode(ids, skip_special_tokens=True) == skipped


def test_other_tokenizers_load_from_tokenizer_json(
    small_checkpoint: Callable[..., Path],
) -> None:
    tokenizer = load_tokenizer(small_checkpoint("llada"))
    assert tokenizer("7 8")["input_ids"] == [14, 15]
    assert tokenizer.padding_side == "left"


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_tokenizer_file_is_named(
    small_checkpoint: Callable[..., Path], file: str
) -> None:
    folder = small_checkpoint("dream")
    (folder / file).write_text("{ broken")
    with pytest.raises(ModelError, match=str(folder)):
        load_tokenizer(folder)


def test_a_prompt_beyond_the_declared_length_is_no_news(
    dream: Any, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        ids = dream("a " * (dream.model_max_length + 1))["input_ids"]
    finally:
        logger.removeHandler(caplog.handler)
    assert len(ids) > dream.model_max_length
    assert "longer than" not in caplog.text
