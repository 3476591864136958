"""LLaDA: a bidirectional OLMo-style decoder, under the original parameter names.

Position i of its logits predicts token i, so `hidden` needs no shift. Knows nothing about decoding or
losses. No remote code. The name `ff_out` exists twice: in every block (down projection) and on the
transformer (the head).

Source: measured against the later upstream module (2-D
masks honoured) under transformers 4.46.2. Shape letters as in `dream.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import MaskedLMOutput

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.layers import (
    NativeModel,
    RMSNorm,
    RotaryTable,
    attend,
    attendable,
    refuse_unsupported,
    resolve_rope_theta,
    rotate,
)

_ONLY: dict[str, tuple[Any, ...]] = {
    "activation_type": ("silu",),
    "alibi": (False,),
    "attention_layer_norm": (False,),
    "bias_for_layer_norm": (False, None),
    "block_group_size": (1,),
    "block_type": ("llama",),
    "include_bias": (False,),
    "include_qkv_bias": (False, None),
    "input_emb_norm": (False,),
    "layer_norm_type": ("rms",),
    "layer_norm_with_affine": (True,),
    "multi_query_attention": (None, False),
    "rope": (True,),
    "rope_full_precision": (True,),
    "scale_logits": (False,),
    "embedding_dropout": (0.0,),
    "residual_dropout": (0.0,),
    **dict.fromkeys(("clip_qkv", "norm_after", "qk_norm"), (None, False)),
}
"""Options of the original code, and of OLMo behind it, that no published checkpoint switches."""


class LLaDAConfig(PreTrainedConfig):
    """The fields of LLaDA's config.json that decide shapes; the defaults are the 8B values."""

    model_type = "llada"
    keys_to_ignore_at_inference: ClassVar[list[str]] = []
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "num_key_value_heads": "n_kv_heads",
        "intermediate_size": "mlp_hidden_size",
        "max_position_embeddings": "max_sequence_length",
        "tie_word_embeddings": "weight_tying",
    }

    vocab_size: int = 126464
    embedding_size: int | None = None
    d_model: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int | None = None
    mlp_hidden_size: int | None = None
    mlp_ratio: int | float = 4
    max_sequence_length: int = 4096
    rms_norm_eps: float = 1e-5
    rope_theta: float | None = None
    rope_parameters: dict | None = None
    weight_tying: bool = False
    attention_dropout: float = 0.0
    init_std: float = 0.02
    use_cache: bool = False
    mask_token_id: int | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        faults = [
            f"{name} = {kwargs[name]!r} (supported: {allowed[0]!r})"
            for name, allowed in _ONLY.items()
            if name in kwargs and kwargs[name] not in allowed
        ]
        scaling = kwargs.pop("rope_scaling", None)
        if scaling or (self.rope_parameters or {}).get("rope_type", "default") != "default":
            faults.append(f"rope_scaling = {scaling or self.rope_parameters!r} (supported: null)")
        if self.n_kv_heads is None:
            self.n_kv_heads = self.n_heads
        if self.mlp_hidden_size is None:
            self.mlp_hidden_size = int(self.mlp_ratio * self.d_model)
        if self.embedding_size is None:
            self.embedding_size = self.vocab_size
        if self.d_model % self.n_heads:
            faults.append("d_model is not a multiple of n_heads")
        if self.n_heads % self.n_kv_heads:
            faults.append("n_heads is not a multiple of n_kv_heads")
        if self.embedding_size < self.vocab_size:
            faults.append("embedding_size is smaller than vocab_size")
        refuse_unsupported("LLaDA", faults)
        kwargs.pop("auto_map", None)
        if kwargs.get("attn_implementation") not in ("sdpa", "eager"):
            kwargs.pop("attn_implementation", None)
        self.rope_theta = resolve_rope_theta(self.rope_theta, self.rope_parameters, default=5e5)
        self.rope_parameters = {"rope_type": "default", "rope_theta": self.rope_theta}
        super().__post_init__(**kwargs)


class LLaDABlock(GradientCheckpointingLayer):
    """One pre-norm block; attention and feed-forward lie flat in it, as in the original."""

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        width, inner = config.d_model, config.mlp_hidden_size or 0
        self.head_width = width // config.n_heads
        keys_width = (config.n_kv_heads or 0) * self.head_width
        self.dropout = config.attention_dropout
        self.attn_norm = RMSNorm(width, config.rms_norm_eps)
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, keys_width, bias=False)
        self.v_proj = nn.Linear(width, keys_width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.ff_norm = RMSNorm(width, config.rms_norm_eps)
        self.ff_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.ff_out = nn.Linear(inner, width, bias=False)

    def forward(
        self, hidden: Tensor, mask: Tensor | None, cos: Tensor, sin: Tensor, eager: bool
    ) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        normed = self.attn_norm(hidden)
        query, key, value = (
            projection(normed).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        # Rotated in float32 and rounded once: the original's rope_full_precision.
        mixed = attend(
            rotate(query.float(), cos, sin).to(query.dtype),
            rotate(key.float(), cos, sin).to(key.dtype),
            value,
            mask=mask,
            eager=eager,
            dropout=self.dropout if self.training else 0.0,
        )
        hidden = hidden + self.attn_out(mixed)
        normed = self.ff_norm(hidden)
        return hidden + self.ff_out(nn.functional.silu(self.ff_proj(normed)) * self.up_proj(normed))


class LLaDATrunk(nn.Module):
    """The original's `model`: one level that holds `transformer`."""

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        rows = config.embedding_size or 0
        parts: dict[str, nn.Module] = {
            "wte": nn.Embedding(rows, config.d_model),
            "blocks": nn.ModuleList(LLaDABlock(config) for _ in range(config.n_layers)),
            "ln_f": RMSNorm(config.d_model, config.rms_norm_eps),
            "ff_out": nn.Linear(config.d_model, rows, bias=False),
        }
        self.transformer = nn.ModuleDict(parts)
        self.rotary = RotaryTable(config.d_model // config.n_heads, config.rope_theta or 0.0)

    def forward(
        self, embedded: Tensor, mask: Tensor | None, eager: bool, record: list[Tensor] | None
    ) -> Tensor:
        """Hidden states after the final norm, (B, L, D), position i predicting token i.

        Positions count from the left edge, padding included: rotary attention sees differences only.
        """
        positions = torch.arange(embedded.shape[1], device=embedded.device)[None]
        cos, sin = self.rotary(positions)
        hidden = embedded
        blocks: Any = self.transformer["blocks"]
        for block in blocks:
            if record is not None:
                record.append(hidden)
            hidden = block(hidden, mask, cos, sin, eager)
        hidden = self.transformer["ln_f"](hidden)
        if record is not None:
            record.append(hidden)
        return hidden


class LLaDAModelLM(NativeModel):
    """LLaDA with its head; parameter names are the published checkpoint's."""

    config_class = LLaDAConfig
    base_model_prefix = "model"
    _no_split_modules: ClassVar[list[str]] = ["LLaDABlock"]
    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "model.transformer.ff_out.weight": "model.transformer.wte.weight"
    }

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__(config)
        self.model = LLaDATrunk(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding, which peft and gradient checkpointing ask for."""
        return self.model.transformer["wte"]

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.model.transformer["ff_out"]

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Final hidden states (B, L, D); position i predicts token i.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L), non-zero for real tokens; None when nothing is padding.
        """
        embedded = self.model.transformer["wte"](input_ids)
        return self.model(embedded, attendable(attention_mask), self.uses_eager_attention, None)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., D), V = embedding_size, in the model dtype."""
        return self.model.transformer["ff_out"](hidden)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        attention_bias: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> MaskedLMOutput | tuple[Any, ...]:
        """Logits of every position, as the original.

        Args:
            input_ids: (B, L) int64, or None with `inputs_embeds`.
            attention_mask: (B, L), non-zero for real tokens: padded keys are hidden.
            attention_bias: (B, 1, L, L) float added to the scores, in place of `attention_mask`.
            inputs_embeds: (B, L, D) in place of `input_ids`.
            labels: Not available: losses are objectives; anything but None is an error.
            output_hidden_states: Return the input of every block and the final state.
            output_attentions: Not available; True is an error.
            return_dict: False returns a plain tuple.
        """
        if output_attentions:
            raise ModelError("attention weights are not returned: call without output_attentions")
        if labels is not None:
            raise ModelError("the network computes no loss: call it without labels")
        if attention_mask is not None and attention_bias is not None:
            raise ModelError("give attention_mask or attention_bias, not both")
        if (input_ids is None) == (inputs_embeds is None):
            raise ModelError("forward needs either input_ids or inputs_embeds")
        record: list[Tensor] | None = [] if output_hidden_states else None
        embedded = (
            self.model.transformer["wte"](input_ids) if inputs_embeds is None else inputs_embeds
        )
        mask = attendable(attention_mask if attention_bias is None else attention_bias)
        hidden = self.model(embedded, mask, self.uses_eager_attention, record)
        output = MaskedLMOutput(
            logits=self.logits(hidden), hidden_states=tuple(record) if record else None
        )
        return output if return_dict in (None, True) else output.to_tuple()

    def prepare_inputs_for_generation(self, input_ids: Tensor, **options: Any) -> dict[str, Any]:
        """What peft's causal wrapper asks for; there is no cache, every step runs the whole canvas."""
        return {"input_ids": input_ids, "attention_mask": options.get("attention_mask")}


def init_std(config: LLaDAConfig) -> float:
    """Standard deviation of freshly drawn matrices."""
    return config.init_std


CONFIG = LLaDAConfig
NETWORK = LLaDAModelLM
TASK_TYPE = "CAUSAL_LM"
"""peft's task type in the release's adapters of this family."""
MASK_TOKEN = "<|mdm_mask|>"
END_TOKENS = ("<|eot_id|>",)
"""Tokens that end an answer besides eos."""

AutoConfig.register("llada", LLaDAConfig, exist_ok=True)
AutoModel.register(LLaDAConfig, LLaDAModelLM, exist_ok=True)
AutoModelForCausalLM.register(LLaDAConfig, LLaDAModelLM, exist_ok=True)
