"""Writing models: the adapter or the whole network beside its tokenizer, and a merged plain folder.

Every function writes into an existing folder; who calls it makes that atomic. Knows no training.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tabom_cli.core.models.base import DiffusionLM
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

    The merged weights are rounded to the base's dtype; load the model in float32 for a merge that
    computes the same logits to float32 accuracy. The model in memory is merged too.

    Args:
        model: With or without an adapter.
        folder: Existing folder; afterwards it loads as `model.path`.
    """
    network: Any = model.network
    if is_adapted(network):
        network = network.merge_and_unload(safe_merge=True)
    save_network(network, folder)
    model.tokenizer.save_pretrained(str(folder))


def save_network(network: Any, folder: Path) -> None:
    """Write config.json and safetensors shards under the original parameter names."""
    network.save_pretrained(str(folder), max_shard_size=_SHARD_SIZE)
    # The sampler has its own settings; a stray generation_config.json would only mislead.
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values.pop("auto_map", None)
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
