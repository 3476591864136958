"""LoRA adapters through peft: attach, load strictly, save, list what is trained.

peft itself only warns when an adapter's keys match nothing; here that is an error. Knows no training.
peft is imported inside the functions, because that takes seconds.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.checks import check_adapter
from tabom_cli.core.models.config import LoraConfig
from tabom_cli.core.models.fingerprint import base_hash
from tabom_cli.core.models.pickles import refuse_pickles
from tabom_cli.core.models.source import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    adapter_family,
    describe_folder,
    read_json,
)
from tabom_cli.core.models.values import AdapterValues, faults_in

_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, []),
    "target_parameters": (None, []),
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "lora_bias": (False, None),
    "layer_replication": (None, []),
}
_BASE_HASH = "base_hash.txt"
"""adapter_config.json options that would put something else than plain factors beside the base."""


def attach_adapter(
    network: nn.Module, lora: LoraConfig, *, task_type: str, base: str, seed: int
) -> nn.Module:
    """The network with a fresh trainable float32 adapter; the base is frozen.

    The B factors start at zero, so the network computes what it did before.

    Args:
        network: A native network.
        lora: Rank, alpha, dropout, target modules.
        task_type: peft's task type of the family.
        base: Name that the saved adapter gives for its base.
        seed: The A factors depend on it alone.

    Raises:
        ModelError: No linear layer has one of the target names.
    """
    from peft import LoraConfig as PeftLoraConfig

    settings = PeftLoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(lora.target_modules),
        bias="none",
        task_type=task_type,
        base_model_name_or_path=base,
    )
    _refuse_absent_targets(network, lora.target_modules)
    model = _wrap(network, settings, source="lora.target_modules")
    _draw_factors(model, seed)
    return model


def load_adapter(
    network: nn.Module,
    folder: str,
    *,
    base: str,
    family: str,
    lora: LoraConfig | None = None,
) -> nn.Module:
    """The network with a stored adapter.

    Args:
        network: A native network.
        folder: Holds adapter_config.json and adapter_model.safetensors.
        base: Name of the loaded base, for messages.
        family: Family of the loaded base.
        lora: Continue training it; its settings must be the adapter's. None freezes it.

    Raises:
        ModelError: Files missing or pickled; another family; keys that match nothing; other shapes;
            a base with other weights than the adapter was trained on, if it says on which; options that are not plain LoRA; settings that differ from `lora`.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    path = Path(folder).expanduser()
    values = read_adapter_config(path)
    if not (path / ADAPTER_WEIGHTS).is_file():
        refuse_pickles(path, ADAPTER_WEIGHTS)
        raise ModelError(
            f"{path / ADAPTER_WEIGHTS}: file not found", hint="copy the adapter folder again"
        )
    trained_on = _named_base(values)
    other = adapter_family(path)
    if other is not None and other != family:
        raise ModelError(
            f"{path}: this adapter belongs to the {other} family"
            f"{f' ({trained_on})' if trained_on else ''}, the loaded base {base} is {family}",
            hint=f"set model.path to {trained_on}" if trained_on not in {None, base} else None,
        )
    if lora is not None:
        _refuse_other_settings(path, values, lora)
    known = set(PeftLoraConfig.__dataclass_fields__)
    try:
        settings = PeftLoraConfig(**{key: value for key, value in values.items() if key in known})
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path / ADAPTER_CONFIG}: peft refuses it: {error}") from error
    settings.inference_mode = lora is None
    settings.base_model_name_or_path = base
    model = _wrap(network, settings, source=str(path / ADAPTER_CONFIG))
    expected = {
        name: tuple(value.shape)
        for name, value in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    check_adapter(path / ADAPTER_WEIGHTS, expected, base=base, adapter_base=trained_on)
    _refuse_other_weights(path, base_hash(model), base, trained_on)
    factors = load_file(path / ADAPTER_WEIGHTS)
    broken = [name for name, value in factors.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise ModelError(
            f"{path / ADAPTER_WEIGHTS}: NaN or infinity in {', '.join(broken[:3])}",
            hint="the run that wrote it diverged; take an earlier epoch",
        )
    set_peft_model_state_dict(model, factors)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = lora is not None and _is_factor(name)
    return model


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The parsed adapter_config.json, checked to be plain LoRA.

    Raises:
        ModelError: Absent, no LoRA, with options that change more than linear layers, or with values
            that are missing or of another type.
    """
    path = folder / ADAPTER_CONFIG
    values = read_json(path, missing_hint=describe_folder(folder))
    if values.get("peft_type") != "LORA":
        raise ModelError(f"{path}: peft_type {values.get('peft_type')!r}; supported: 'LORA'")
    odd = [
        f"{key} = {values[key]!r}"
        for key, allowed in _UNSUPPORTED.items()
        if values.get(key) not in allowed
    ]
    if odd:
        raise ModelError(
            f"{path}: not supported: {', '.join(odd)}", hint="plain LoRA adapters only"
        )
    faults = faults_in(values, AdapterValues)
    if faults:
        raise ModelError(
            f"{path}: not a LoRA config: {'; '.join(faults)}", hint="copy the adapter folder again"
        )
    return values


def save_adapter(network: nn.Module, folder: Path, *, base: str) -> None:
    """Write config, factors and the hash of the base; equal weights give equal bytes.

    Args:
        network: A network that `attach_adapter` or `load_adapter` returned.
        folder: Existing folder.
        base: Name of the base model.
    """
    from peft import get_peft_model_state_dict

    state: dict[str, Tensor] = get_peft_model_state_dict(network, save_embedding_layers=False)
    tensors = {name: state[name].detach().cpu().contiguous() for name in sorted(state)}
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    if own := base_hash(network):
        (folder / _BASE_HASH).write_text(own + "\n", encoding="ascii")
    values = dict(network.peft_config["default"].to_dict())  # type: ignore[union-attr,index,operator]
    values |= {"base_model_name_or_path": base, "inference_mode": True, "auto_mapping": None}
    for key, value in values.items():
        # Sets come out in another order in every process.
        values[key] = sorted(value) if isinstance(value, set) else getattr(value, "value", value)
    text = json.dumps(values, indent=2, sort_keys=True, default=str)
    (folder / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")


def is_adapted(network: nn.Module) -> bool:
    """Whether the network carries a peft adapter."""
    return hasattr(network, "peft_config")


def trainable_parameters(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters that an optimizer should update, in the network's order."""
    return [(name, value) for name, value in network.named_parameters() if value.requires_grad]


def _is_factor(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def _wrap(network: nn.Module, settings: Any, *, source: str) -> nn.Module:
    from peft import get_peft_model

    state = torch.random.get_rng_state()
    # peft would overwrite the name in its settings by the one that the network carries.
    network.name_or_path = settings.base_model_name_or_path
    try:
        with warnings.catch_warnings():
            # peft asks transformers under names that the newest version calls deprecated.
            warnings.simplefilter("ignore", FutureWarning)
            return get_peft_model(network, settings)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ModelError(f"{source}: the adapter cannot be attached: {error}") from error
    finally:
        torch.random.set_rng_state(state)


def _refuse_absent_targets(network: nn.Module, targets: tuple[str, ...]) -> None:
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
    }
    absent = sorted(set(targets) - linear)
    if absent:
        raise ModelError(
            f"lora.target_modules: {', '.join(absent)} not in the network; "
            f"there are {', '.join(sorted(linear))}"
        )


def _draw_factors(model: nn.Module, seed: int) -> None:
    """Redraw the A factors from the seed: uniform in +-1/sqrt(in), peft's own distribution."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:
            bound = parameter.shape[1] ** -0.5
            drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
            with torch.no_grad():
                parameter.copy_(drawn)


def _named_base(values: dict[str, Any]) -> str | None:
    """The base that an adapter names, a folder in the form in which `Source.name` has it."""
    name = values.get("base_model_name_or_path")
    if name and name != "tiny" and Path(name).expanduser().is_dir():
        return str(Path(name).expanduser().resolve())
    return name or None


def _refuse_other_weights(folder: Path, own: str | None, base: str, trained_on: str | None) -> None:
    path = folder / _BASE_HASH
    if own is None or not path.is_file():
        return
    stored = path.read_text(encoding="ascii", errors="replace").strip()
    if stored == own:
        return
    raise ModelError(
        f"{folder}: this adapter was trained on {trained_on or 'a base'} with the weights {stored}, "
        f"the loaded base {base} has the weights {own}",
        hint="load it on the weights that it was trained on; those in a folder may have been replaced",
    )


def _refuse_other_settings(path: Path, values: dict[str, Any], lora: LoraConfig) -> None:
    targets = values.get("target_modules")
    stored = {
        "rank": values.get("r"),
        "alpha": values.get("lora_alpha"),
        "target_modules": sorted(targets) if isinstance(targets, list) else targets,
    }
    wanted = {
        "rank": lora.rank,
        "alpha": lora.alpha,
        "target_modules": sorted(lora.target_modules),
    }
    faults = [
        f"lora.{key} is {wanted[key]}, the adapter has {stored[key]}"
        for key in wanted
        if wanted[key] != stored[key]
    ]
    if faults:
        raise ModelError(
            f"{path}: training cannot go on from this adapter: {'; '.join(faults)}",
            hint="set the lora section to the adapter's values",
        )
