"""Writing models: the adapter or the whole network beside its tokenizer, and a merged plain folder.

Every function writes into an existing folder; who calls it makes that atomic. Knows no training.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tabom_cli.core.models.base import DiffusionLM
from tabom_cli.core.models.checks import raise_faults
from tabom_cli.core.models.lora import is_adapted, save_adapter

_SHARD_SIZE = "5GB"


def save_model(model: DiffusionLM, folder: Path) -> None:
    """Write what was trained: the adapter if there is one, else all weights; and the tokenizer.

    Args:
        model: Loaded by `load_model`; the network may have been trained since.
        folder: Existing folder.
    """
    if is_adapted(model.network):
        save_adapter(model.network, folder, base=model.name)
    else:
        save_network(model.network, folder)
    model.tokenizer.save_pretrained(str(folder))


def export_model(model: DiffusionLM, folder: Path) -> None:
    """Write a plain checkpoint: adapter merged into the base, tokenizer beside it.

    Every adapted matrix is merged in float32 and rounded once to the base's dtype, so a float32 model
    computes the same logits afterwards to float32 accuracy. The model in memory is merged too.

    Args:
        model: With or without an adapter.
        folder: Existing folder; afterwards it loads as `model.path`.

    Raises:
        ModelError: The merged weights are not finite.
    """
    network: Any = model.network
    save_network(merged(network) if is_adapted(network) else network, folder)
    model.tokenizer.save_pretrained(str(folder))


def exported_bytes(model: DiffusionLM) -> int:
    """Size of what `export_model` writes, tokenizer left out."""
    return sum(value.numel() * value.element_size() for value in model.network.parameters())


@torch.no_grad()
def merged(network: Any) -> Any:
    """The native network inside a peft model, with the adapter added to its matrices in place.

    Raises:
        ModelError: NaN or infinity came out, in the named modules.
    """
    broken = []
    for name, module in network.named_modules():
        if not hasattr(module, "get_delta_weight"):
            continue
        weight = module.get_base_layer().weight
        for adapter in module.active_adapters:
            # peft would round the update before it adds it; one rounding is closer.
            weight.copy_(weight.float() + module.get_delta_weight(adapter).float())
        if not bool(torch.isfinite(weight).all()):
            broken.append(name)
    raise_faults("merging gives weights that are not finite", broken, hint="use --dtype float32")
    return network.unload()


def save_network(network: Any, folder: Path) -> None:
    """Write config.json and safetensors shards under the original parameter names."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        network.save_pretrained(str(folder), max_shard_size=_SHARD_SIZE)
    finally:
        if shown:
            logging.enable_progress_bar()
    # The sampler has its own settings; a stray generation_config.json would only mislead.
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values.pop("auto_map", None)
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
