"""Types and ranges of the values in config.json and adapter_config.json that loading relies on.

Knows nothing about how options depend on each other: the families' configs check that. Keys that are
not listed are of no interest here. Imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Size = Annotated[int, Field(ge=1)]
TokenId = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class FileValues(BaseModel):
    """Some values of a JSON file, none of which is converted."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class _Common(FileValues):
    vocab_size: Size
    mask_token_id: TokenId
    eos_token_id: TokenId | Annotated[list[TokenId], Field(min_length=1)]
    pad_token_id: TokenId | None = None
    rms_norm_eps: Positive = 1e-6
    attention_dropout: Share = 0.0
    rope_theta: Positive | None = None
    rope_parameters: dict[str, Any] | None = None


class DreamValues(_Common):
    """Dream's config.json; what has no default must be there, class defaults never stand in."""

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_key_value_heads: Size | None = None
    initializer_range: Positive = 0.02
    tie_word_embeddings: bool = False


class LLaDAValues(_Common):
    """LLaDA's config.json; what has no default must be there, class defaults never stand in."""

    d_model: Size
    n_layers: Size
    n_heads: Size
    n_kv_heads: Size | None = None
    mlp_hidden_size: Size | None = None
    mlp_ratio: Positive = 4
    embedding_size: Size | None = None
    init_std: Positive = 0.02
    weight_tying: bool = False


class AdapterValues(FileValues):
    """adapter_config.json; peft's own defaults for rank and scale must not stand in either."""

    r: Size
    lora_alpha: Positive
    target_modules: str | list[str]
    lora_dropout: Share = 0.0
    rank_pattern: dict[str, Size] | None = None
    alpha_pattern: dict[str, Positive] | None = None
    task_type: Literal["FEATURE_EXTRACTION", "CAUSAL_LM"] | None = None
    base_model_name_or_path: str | None = None


def faults_in(values: Mapping[str, Any], model: type[FileValues]) -> list[str]:
    """What is missing or wrong, one text for each key; null counts as missing where it means nothing.

    Args:
        values: The parsed file.
        model: What it should hold.
    """
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    missing = [name for name in required if values.get(name) is None]
    faults = {name: f"{name} is missing" for name in missing}
    try:
        model.model_validate(values)
    except ValidationError as error:
        # A key of several types has a fault for each of them; the first says enough.
        for fault in error.errors(include_url=False):
            key, message = str(fault["loc"][0]), fault["msg"]
            shown = f"{key} = {values.get(key)!r}: {message[0].lower()}{message[1:]}"
            faults.setdefault(key, shown)
    return list(faults.values())
