"""From the model section of a recipe to a loaded `DiffusionLM`.

Puts together source, network, weights, tokenizer and adapter; knows nothing about what the model is
used for. Importing this module imports no transformers: `inspect_checkpoint` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tabom_cli.core import plugins
from tabom_cli.core.errors import EnvironmentNotReady, ModelError
from tabom_cli.core.models.footprint import family_of
from tabom_cli.core.models.source import (
    CheckpointInfo,
    Source,
    find_source,
    inspect_checkpoint,
    known_config,
    read_config,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from tabom_cli.core.models.base import DiffusionLM, SpecialIds
    from tabom_cli.core.models.config import LoraConfig, ModelConfig

__all__ = [
    "CheckpointInfo",
    "find_source",
    "inspect_checkpoint",
    "known_config",
    "load_checked_tokenizer",
    "load_model",
    "load_network",
    "read_network_config",
]


def load_model(
    config: ModelConfig,
    *,
    lora: LoraConfig | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> DiffusionLM:
    """A model in evaluation mode, with its adapter if there is one.

    Args:
        config: Which base, in which form; `config.adapter` is loaded on it.
        lora: Make the adapter trainable: a fresh one, or `config.adapter`, which must then have this
            rank, alpha and these target modules. The base is frozen. None leaves a loaded adapter frozen
            and, without an adapter, all parameters trainable.
        device: Where the parameters go, such as `cpu` or `cuda:0`.
        seed: For a fresh adapter and for `config.init: random`.

    Raises:
        ModelError: Anything wrong with config, weights, tokenizer or adapter; names the file.
        EnvironmentNotReady: The device does not exist, or a Hub name needs a network.
    """
    from tabom_cli.core.models import lora as adapters
    from tabom_cli.core.models.base import DiffusionLM
    from tabom_cli.core.models.template import chat_template

    check_device(device)
    source = find_source(config.path, revision=config.revision, weights=config.init == "pretrained")
    values = read_config(source.folder)
    name = family_of(values, source=str(source.folder / "config.json"))
    family = plugins.load("model family", name)
    tokenizer, ids = load_checked_tokenizer(source.folder, label=config.path)
    # Nothing can be asked without a template, and the weights take minutes to load.
    chat_template(tokenizer, source=str(source.folder))
    network: nn.Module = load_network(source, config, device=device, seed=seed)
    if config.adapter is not None:
        network = adapters.load_adapter(
            network, config.adapter, base=source.name, family=name, lora=lora
        )
    elif lora is not None:
        network = adapters.attach_adapter(
            network, lora, task_type=family.TASK_TYPE, base=source.name, seed=seed
        )
    return DiffusionLM(
        family=name,
        network=network.eval(),
        tokenizer=tokenizer,
        ids=ids,
        name=source.name,
        revision=source.revision,
        adapter=config.adapter,
    )


def load_checked_tokenizer(folder: Path, *, label: str) -> tuple[Any, SpecialIds]:
    """The tokenizer of a checkpoint folder and the special ids on which it and config.json agree.

    Args:
        folder: Holds config.json and the tokenizer.
        label: Name of the checkpoint, for messages.

    Raises:
        ModelError: The tokenizer is missing or cannot be read, or the ids differ.
    """
    from tabom_cli.core.models.checks import check_special_ids
    from tabom_cli.core.models.tokenizers import load_tokenizer

    values = read_config(folder)
    family = plugins.load("model family", family_of(values, source=str(folder / "config.json")))
    tokenizer = load_tokenizer(folder)
    ids = check_special_ids(
        values,
        tokenizer,
        source=label,
        mask_token=family.MASK_TOKEN,
        end_tokens=family.END_TOKENS,
        num_rows=values.get("embedding_size") or values["vocab_size"],
    )
    return tokenizer, ids


def load_network(source: Source, config: ModelConfig, *, device: str = "cpu", seed: int = 0) -> Any:
    """The base network alone, without tokenizer and adapter, in evaluation mode.

    Args:
        source: What `find_source` returned.
        config: Its init, dtype and attention are used.
        device: Where the parameters go.
        seed: For `config.init: random`.

    Raises:
        ModelError: See `read_weights`; or the config asks for what the network does not have.
    """
    import torch

    from tabom_cli.core.models.weights import draw_weights, read_weights

    family, network_config = read_network_config(source.folder)
    dtype = getattr(torch, config.dtype)
    network_config.dtype = dtype
    network_config._attn_implementation = config.attention
    with torch.device("meta"):
        network = family.NETWORK(network_config)
    if config.init == "random":
        draw_weights(
            network, seed=seed, std=family.init_std(network_config), device=device, dtype=dtype
        )
    else:
        read_weights(network, source.folder, device=device, dtype=dtype)
    return network.eval()


def read_network_config(folder: Path) -> tuple[Any, Any]:
    """The family's plugin and its config object, after the family's own checks of all options.

    Args:
        folder: Holds config.json.

    Raises:
        ModelError: config.json is damaged, or asks for what the network does not have.
    """
    from huggingface_hub.errors import StrictDataclassError

    path = folder / "config.json"
    values = read_config(folder)
    family = plugins.load("model family", family_of(values, source=str(path)))
    # Dropped: some published copies ask for a kernel here; the recipe decides.
    values.pop("attn_implementation", None)
    try:
        return family, family.CONFIG(**values)
    except (AttributeError, TypeError, ValueError, StrictDataclassError) as error:
        raise ModelError(f"{path}: not a config that transformers can read: {error}") from error


def check_device(device: str) -> None:
    """Refuse a device that PyTorch cannot use here.

    Raises:
        EnvironmentNotReady: A CUDA device that is not visible.
    """
    if not device.startswith("cuda"):
        return
    import torch

    index = torch.device(device).index or 0
    if index >= torch.cuda.device_count():
        raise EnvironmentNotReady(
            f"device {device} is not there: PyTorch sees {torch.cuda.device_count()} GPUs",
            hint="run on fewer GPUs or on the CPU; a CUDA build of PyTorch is needed to see any",
        )
