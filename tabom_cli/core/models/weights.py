"""Putting weights into a network: read strictly from safetensors, or drawn from a seed.

Networks arrive on the meta device; every tensor goes straight to its device and dtype, one at a time,
so that the host never holds a second copy. Knows no family and no configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from tabom_cli.core.models.checks import check_checkpoint, raise_faults


def read_weights(network: nn.Module, folder: Path, *, device: str, dtype: torch.dtype) -> None:
    """Fill a network on the meta device from a checkpoint folder.

    Args:
        network: Built under `torch.device("meta")`; a tied head must be tied already.
        folder: safetensors shards with an index, or one file.
        device: Where the parameters go.
        dtype: Their type; stored tensors of another type are converted one by one.

    Raises:
        ModelError: See `check_checkpoint`; or tensors with NaN or infinity, with their file.
    """
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    faults: list[str] = []
    for path, names in check_checkpoint(folder, shapes).items():
        totals: dict[str, torch.Tensor] = {}
        with safe_open(path, framework="pt", device=device) as file:
            for name in names:
                stored = file.get_tensor(name)
                # A sum is finite when every term is, and needs neither a boolean nor a wider copy.
                totals[name] = stored.sum(dtype=torch.promote_types(stored.dtype, torch.float32))
                # On the CPU the stored tensor may be a view of the mapped file.
                _assign(network, name, stored.to(dtype, copy=stored.device.type == "cpu"))
        faults += [
            f"{path}: {name} holds NaN or infinity"
            for name, total in totals.items()
            if not bool(torch.isfinite(total))
        ]
    raise_faults(f"{folder}: weights that are not finite", faults, hint=_HINT)
    _retie(network)


_HINT = "copy or download the checkpoint again; if it was trained here, the run diverged"


def draw_weights(
    network: nn.Module, *, seed: int, std: float, device: str, dtype: torch.dtype
) -> None:
    """Fill a network on the meta device with fresh weights that depend on the seed alone.

    Matrices are normal with standard deviation `std`, norm weights 1, biases 0, and the embedding row
    of the padding token 0, as the original modules start. Numbers are drawn in float32 on the CPU, so
    that every device and dtype starts from the same values.

    Args:
        network: Built under `torch.device("meta")`.
        seed: Any integer.
        std: Standard deviation of the matrices.
        device: Where the parameters go.
        dtype: Their type.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in list(network.named_parameters()):
        if parameter.dim() > 1:
            value = torch.empty(parameter.shape, device="cpu").normal_(
                0.0, std, generator=generator
            )
            owner = network.get_submodule(name.rpartition(".")[0])
            padding = getattr(owner, "padding_idx", None)
            if padding is not None:
                value[padding] = 0.0
        elif name.endswith(".bias"):
            value = torch.zeros(parameter.shape, device="cpu")
        else:
            value = torch.ones(parameter.shape, device="cpu")
        _assign(network, name, value.to(device=device, dtype=dtype))
    _retie(network)


def _assign(network: nn.Module, name: str, value: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(path), leaf, nn.Parameter(value))


def _retie(network: Any) -> None:
    network.tie_weights()
