"""Whether two loaded networks are the same: a hash of their weights. Knows no file format."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

_PROBES = 64


@torch.no_grad()
def weights_hash(network: nn.Module) -> str:
    """Hash of a strided sample of every parameter, adapters included.

    Reads at most 64 values of each parameter, so an 8B model takes a moment, and another seed,
    another adapter, another precision or one more training step gives another hash.
    """
    state = hashlib.sha256()
    for name, parameter in sorted(network.named_parameters()):
        flat = parameter.detach().reshape(-1)
        state.update(f"{name}|{tuple(parameter.shape)}|{parameter.dtype}".encode())
        if flat.numel() and flat.device.type != "meta":
            probes = torch.linspace(0, flat.numel() - 1, min(_PROBES, flat.numel())).long()
            values = flat[probes.to(flat.device)].to("cpu").contiguous()
            state.update(values.view(torch.uint8).numpy().tobytes())
    return state.hexdigest()[:24]
