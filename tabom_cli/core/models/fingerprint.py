"""Whether two loaded networks are the same: a hash of their weights. Knows no file format."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

_PROBES = 64


def weights_hash(network: nn.Module) -> str:
    """Hash of a strided sample of every parameter, adapters included.

    Reads at most 64 values of each parameter, so an 8B model takes a moment, and another seed,
    another adapter, another precision or one more training step gives another hash.
    """
    return _hash(dict(network.named_parameters()))


def part_hashes(network: nn.Module) -> tuple[str, str | None]:
    """Hashes of the base and of its LoRA adapter, None without one.

    The base's hash is the same with and without an adapter.
    """
    base, adapter = _parts(network)
    return _hash(base), _hash(adapter) if adapter else None


def base_hash(network: nn.Module) -> str | None:
    """Hash of the base's weights rounded to bfloat16, None for a float16 base.

    Adapters carry it to be recognised on another machine: it is the same for float32 and bfloat16
    copies of one base, with and without an adapter. float16 rounds at other places and is not compared.
    """
    base, _ = _parts(network)
    if any(parameter.dtype == torch.float16 for parameter in base.values()):
        return None
    return _hash(base, dtype=torch.bfloat16)


def _parts(network: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Parameters of the base, under the names that it has without an adapter, and of the adapter."""
    base: dict[str, nn.Parameter] = {}
    adapter: dict[str, nn.Parameter] = {}
    for name, parameter in network.named_parameters():
        plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        (adapter if ".lora_" in name else base)[plain] = parameter
    return base, adapter


@torch.no_grad()
def _hash(parameters: Mapping[str, nn.Parameter], *, dtype: torch.dtype | None = None) -> str:
    state = hashlib.sha256()
    for name in sorted(parameters):
        parameter = parameters[name]
        flat = parameter.detach().reshape(-1)
        state.update(f"{name}|{tuple(parameter.shape)}|{dtype or parameter.dtype}".encode())
        if flat.numel() and flat.device.type != "meta":
            values = flat[_probes(flat.numel()).to(flat.device)].to("cpu", dtype).contiguous()
            state.update(values.view(torch.uint8).numpy().tobytes())
    return state.hexdigest()[:24]


def _probes(numel: int) -> Tensor:
    """Evenly spaced indices, first and last included.

    In integers: float32 cannot tell apart the last entries of a matrix of 2^24 and more.
    """
    count = min(_PROBES, numel)
    return torch.arange(count) * (numel - 1) // max(count - 1, 1)
