"""Small checkpoint folders of both families, with tokenizers, weights and templates of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from tabom_cli.core.models.footprint import parameter_shapes
from tabom_cli.core.models.tokenizers import load_tokenizer

SMALL_CONFIGS: dict[str, dict[str, Any]] = {
    "dream": {
        "model_type": "Dream",
        "architectures": ["DreamModel"],
        "vocab_size": 48,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "mask_token_id": 3,
        "pad_token_id": 0,
        "eos_token_id": 0,
        "auto_map": {"AutoModel": "modeling_dream.DreamModel"},
    },
    "llada": {
        "model_type": "llada",
        "architectures": ["LLaDAModelLM"],
        "vocab_size": 40,
        "embedding_size": 48,
        "d_model": 32,
        "mlp_hidden_size": 48,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 4,
        "rope_theta": 10000.0,
        "weight_tying": False,
        "mask_token_id": 3,
        "pad_token_id": 0,
        "eos_token_id": 0,
        "auto_map": {"AutoModel": "modeling_llada.LLaDAModelLM"},
    },
}

CHAT = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {{ m['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


def write_tokenizer(folder: Path, *, mask: str | None = "<|mask|>") -> None:
    """A word-level tokenizer whose ids fit `SMALL_CONFIGS`."""
    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|mask|>", "<unk>"]
    words += ["user", "assistant", *[str(number) for number in range(20)]]
    vocabulary = {word: index for index, word in enumerate(words)}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        mask_token=mask,
        chat_template=CHAT,
    )
    tokenizer.save_pretrained(str(folder))


def random_weights(config: dict[str, Any], *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors of every parameter of such a config, large enough to make mistakes visible."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * 0.3
        for name, shape in parameter_shapes(config).items()
    }


@pytest.fixture(scope="session")
def llada_tokenizer(tmp_path_factory: pytest.TempPathFactory, fixtures: Path) -> Any:
    """A stand-in for LLaDA's tokenizer: bytes as words, real special tokens and template.

    LLaDA's tokenizer.json is not at hand; ids below the special ones are made up.
    """
    published = fixtures / "checkpoints" / "LLaDA-8B-Instruct" / "tokenizer_config.json"
    special = json.loads(published.read_text())["added_tokens_decoder"]
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    vocabulary |= {token["content"]: int(index) for index, token in special.items()}
    backend = Tokenizer(BPE(vocabulary, []))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token["content"]) for token in special.values()])
    folder = tmp_path_factory.mktemp("llada_tokenizer")
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(published.read_text())
    return load_tokenizer(folder)


@pytest.fixture
def small_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Write a checkpoint: `small_checkpoint("dream", num_shards=2, changes={...})`."""

    def make(
        family: str,
        *,
        name: str = "base",
        num_shards: int = 1,
        changes: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = {**SMALL_CONFIGS[family], **(changes or {})}
        (folder / "config.json").write_text(json.dumps(config))
        write_tokenizer(folder)
        weights = random_weights(config, seed=seed)
        if num_shards == 1:
            save_file(weights, folder / "model.safetensors")
            return folder
        weight_map: dict[str, str] = {}
        names = list(weights)
        for index in range(num_shards):
            file = f"model-{index + 1:05d}-of-{num_shards:05d}.safetensors"
            part = {key: weights[key] for key in names[index::num_shards]}
            save_file(part, folder / file)
            weight_map.update(dict.fromkeys(part, file))
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return folder

    return make
