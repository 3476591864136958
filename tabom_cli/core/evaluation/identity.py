"""Fingerprints that tell whether two runs could give the same answers. Knows no file format."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.evaluation.records import digest
from tabom_cli.core.models.fingerprint import part_hashes, weights_hash

__all__ = ["decode_hash", "device_name", "package_versions", "part_hashes", "weights_hash"]


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
