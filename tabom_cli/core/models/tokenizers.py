"""Tokenizers of both families without remote code, padded on the left.

Knows how folders declare their tokenizer; does not know templates (`template.py`) or special-id checks
(`checks.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.dream import DreamConfig

QWEN2_CLASSES = frozenset({"DreamTokenizer", "Qwen2Tokenizer", "Qwen2TokenizerFast"})


class DreamTokenizer(Qwen2Tokenizer):
    """Dream's byte-level BPE; equals Qwen2's but for what counts as special when decoding.

    The upstream tokenizer drops only the named special tokens (bos, eos, pad, mask and the declared
    additional ones) and keeps `<|im_start|>` and `<|im_end|>`, which plain Qwen2 drops. The class name
    must be literally this one: `AutoTokenizer` looks it up by the `tokenizer_class` of the folder.
    """

    padding_side = "left"

    def _decode(
        self, token_ids: int | list[int], skip_special_tokens: bool = False, **options: Any
    ) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else [int(token) for token in token_ids]
        if skip_special_tokens:
            special = set(self.all_special_ids)
            ids = [token for token in ids if token not in special]
        return super()._decode(ids, skip_special_tokens=False, **options)


AutoTokenizer.register(DreamConfig, slow_tokenizer_class=DreamTokenizer, exist_ok=True)


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer of a local checkpoint folder, padding on the left.

    Args:
        folder: Holds `tokenizer.json`, or `vocab.json` and `merges.txt` (Dream's published form).

    Raises:
        ModelError: No tokenizer files, or they cannot be read.
    """
    folder = Path(folder)
    has_fast = (folder / "tokenizer.json").is_file()
    has_bpe = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    if not has_fast and not has_bpe:
        raise ModelError(
            f"{folder}: no tokenizer (tokenizer.json, or vocab.json with merges.txt)",
            hint="copy the tokenizer files of the base checkpoint into the folder",
        )
    declared = _declared_class(folder)
    # A folder without tokenizer.json can only be the Qwen2-style BPE, whatever it calls itself.
    dream = declared in QWEN2_CLASSES or not has_fast
    tokenizer_class = DreamTokenizer if dream else PreTrainedTokenizerFast
    try:
        tokenizer = tokenizer_class.from_pretrained(str(folder), padding_side="left")
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: the tokenizer cannot be read: {error}") from error
    # It names remote code, which would make the saved copy unreadable without that code.
    tokenizer.init_kwargs.pop("auto_map", None)
    # Prompts are rendered whole and then cut to the recipe's budget; the notice about the former misleads.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


def _declared_class(folder: Path) -> str | None:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return None
    try:
        declared = json.loads(path.read_text(encoding="utf-8")).get("tokenizer_class")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{path}: not a JSON object: {error}") from error
    return str(declared) if declared else None
