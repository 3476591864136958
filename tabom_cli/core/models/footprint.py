"""Parameter names, shapes and counts from a config alone, for dry runs and for strict checks.

Imports neither torch nor transformers; knows the two families' shapes and the configs of the two
published Instruct checkpoints, so that a dry run needs neither a network nor a checkpoint.

Source: config.json and tensor index of Dream-org/Dream-v0-Instruct-7B and GSAI-ML/LLaDA-8B-Instruct.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.values import DreamValues, FileValues, LLaDAValues, faults_in

Shapes = dict[str, tuple[int, ...]]

PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "Dream-org/Dream-v0-Instruct-7B": {
        "model_type": "Dream",
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "mask_token_id": 151666,
        "pad_token_id": 151643,
        "eos_token_id": 151643,
    },
    "GSAI-ML/LLaDA-8B-Instruct": {
        "model_type": "llada",
        "vocab_size": 126464,
        "embedding_size": 126464,
        "d_model": 4096,
        "mlp_hidden_size": 12288,
        "n_layers": 32,
        "n_heads": 32,
        "n_kv_heads": 32,
        "weight_tying": False,
        "mask_token_id": 126336,
        "pad_token_id": 126081,
        "eos_token_id": 126081,
    },
}

_FAMILIES: Mapping[str, tuple[str, type[FileValues]]] = {
    "Dream": ("dream", DreamValues),
    "llada": ("llada", LLaDAValues),
}


def family_of(config: Mapping[str, Any], *, source: str = "config.json") -> str:
    """The family's plugin name, after checking that the config is one of ours, complete and typed.

    Args:
        config: Parsed config.json.
        source: Where it came from, for the message.

    Raises:
        ModelError: Another architecture, or values that are missing or of another type (all are named).
    """
    model_type = config.get("model_type")
    if str(model_type) not in _FAMILIES:
        raise ModelError(
            f"{source}: model_type {model_type!r} is not supported; supported are 'Dream' (Dream-7B, "
            "Dream-Coder) and 'llada' (LLaDA-8B, LLaDA-1.5)",
            hint="block-diffusion and mixture-of-experts successors (LLaDA2, SDAR, ...) are other networks",
        )
    family, expected = _FAMILIES[str(model_type)]
    faults = faults_in(config, expected)
    if faults:
        raise ModelError(
            f"{source}: not a {model_type} config: {'; '.join(faults)}",
            hint="copy config.json from the original checkpoint again",
        )
    return family


def parameter_shapes(config: Mapping[str, Any]) -> Shapes:
    """Name and shape of every stored tensor, in the order of the network.

    Args:
        config: Parsed config.json of either family.

    Returns:
        Checkpoint name to shape; a tied head is not listed.

    Raises:
        ModelError: See `family_of`.
    """
    return _dream_shapes(config) if family_of(config) == "dream" else _llada_shapes(config)


def parameter_count(config: Mapping[str, Any]) -> int:
    """Number of parameters of the base network."""
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def mlp_size(config: Mapping[str, Any]) -> int:
    """Width between the two halves of the MLP; LLaDA may give it as a multiple of the hidden width."""
    given = config.get("intermediate_size") or config.get("mlp_hidden_size")
    return int(given or config.get("mlp_ratio", 4) * config["d_model"])


def adapter_shapes(
    config: Mapping[str, Any], *, rank: int, target_modules: Collection[str]
) -> Shapes:
    """Name and shape of the LoRA factors, with the keys that peft writes.

    Args:
        config: Parsed config.json of the base.
        rank: r.
        target_modules: Names of linear layers, matched against the last part of the module path.

    Returns:
        `base_model.model.<module>.lora_{A,B}.weight` to (r, in) and (out, r).
    """
    shapes: Shapes = {}
    for name, shape in parameter_shapes(config).items():
        module = name.removesuffix(".weight")
        if len(shape) == 2 and module.rsplit(".", 1)[-1] in target_modules:
            shapes[f"base_model.model.{module}.lora_A.weight"] = (rank, shape[1])
            shapes[f"base_model.model.{module}.lora_B.weight"] = (shape[0], rank)
    return shapes


def adapter_count(config: Mapping[str, Any], *, rank: int, target_modules: Collection[str]) -> int:
    """Number of trainable parameters of such an adapter."""
    shapes = adapter_shapes(config, rank=rank, target_modules=target_modules)
    return sum(math.prod(shape) for shape in shapes.values())


def _dream_shapes(config: Mapping[str, Any]) -> Shapes:
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    keys = (config.get("num_key_value_heads") or heads) * (width // heads)
    shapes: Shapes = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        shapes[f"{layer}.input_layernorm.weight"] = (width,)
        for name, rows in (("q_proj", width), ("k_proj", keys), ("v_proj", keys)):
            shapes[f"{layer}.self_attn.{name}.weight"] = (rows, width)
            shapes[f"{layer}.self_attn.{name}.bias"] = (rows,)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (width, width)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
        shapes[f"{layer}.mlp.gate_proj.weight"] = (inner, width)
        shapes[f"{layer}.mlp.up_proj.weight"] = (inner, width)
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, inner)
    shapes["model.norm.weight"] = (width,)
    if not config.get("tie_word_embeddings", False):
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    return shapes


def _llada_shapes(config: Mapping[str, Any]) -> Shapes:
    width, heads = config["d_model"], config["n_heads"]
    keys = (config.get("n_kv_heads") or heads) * (width // heads)
    inner = mlp_size(config)
    rows = config.get("embedding_size") or config["vocab_size"]
    shapes: Shapes = {"model.transformer.wte.weight": (rows, width)}
    for index in range(config["n_layers"]):
        block = f"model.transformer.blocks.{index}"
        shapes[f"{block}.attn_norm.weight"] = (width,)
        for name, out in (("q_proj", width), ("k_proj", keys), ("v_proj", keys)):
            shapes[f"{block}.{name}.weight"] = (out, width)
        shapes[f"{block}.attn_out.weight"] = (width, width)
        shapes[f"{block}.ff_norm.weight"] = (width,)
        shapes[f"{block}.ff_proj.weight"] = (inner, width)
        shapes[f"{block}.up_proj.weight"] = (inner, width)
        shapes[f"{block}.ff_out.weight"] = (width, inner)
    shapes["model.transformer.ln_f.weight"] = (width,)
    if not config.get("weight_tying", False):
        shapes["model.transformer.ff_out.weight"] = (rows, width)
    return shapes
