"""Fingerprints that tell whether two runs could give the same answers. Knows no file format."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.evaluation.records import digest

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


def decode_hash(config: DecodeConfig) -> str:
    """Hash of the decode settings that can change an answer (the batch size cannot)."""
    settings: dict[str, Any] = config.model_dump(mode="json")
    settings.pop("batch_size")
    return digest(settings)[:16]


def package_versions() -> dict[str, str]:
    """Versions of the packages that the answers depend on."""
    found = {}
    for name in ("tabom", "torch", "transformers", "tokenizers", "peft", "accelerate"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def device_name(device: torch.device) -> str:
    """The accelerator's name, or `cpu`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type
