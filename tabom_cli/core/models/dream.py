"""Dream: Qwen2's decoder made bidirectional, under the original parameter names.

Knows the one-position shift (`hidden` is aligned, `forward` is not) and nothing about decoding or
losses. No remote code.

Source: measured against the upstream module under
transformers 4.46.2. Shape letters: B batch, L sequence, D hidden width, E head width, V logits width.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import MaskedLMOutput

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.layers import (
    NativeModel,
    RMSNorm,
    RotaryTable,
    attend,
    attendable,
    positions_from,
    refuse_unsupported,
    resolve_rope_theta,
    rotate,
)


class DreamConfig(PreTrainedConfig):
    """The fields of Dream's config.json; the defaults are the 7B values."""

    model_type = "Dream"
    keys_to_ignore_at_inference: ClassVar[list[str]] = []

    vocab_size: int = 152064
    hidden_size: int = 3584
    intermediate_size: int = 18944
    num_hidden_layers: int = 28
    num_attention_heads: int = 28
    num_key_value_heads: int | None = 4
    hidden_act: str = "silu"
    max_position_embeddings: int = 131072
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = False
    tie_word_embeddings: bool = False
    rope_theta: float | None = None
    rope_parameters: dict | None = None
    use_sliding_window: bool = False
    use_mrope: bool = False
    attention_dropout: float = 0.0
    mask_token_id: int | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        scaling = kwargs.pop("rope_scaling", None)
        for unused in ("sliding_window", "max_window_layers", "auto_map"):
            kwargs.pop(unused, None)
        # Some copies of the 7B config ask for a kernel that this network does not use.
        if kwargs.get("attn_implementation") not in ("sdpa", "eager"):
            kwargs.pop("attn_implementation", None)
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        faults = []
        for name, allowed in (
            ("hidden_act", "silu"),
            ("use_sliding_window", False),
            ("use_mrope", False),
        ):
            if getattr(self, name) != allowed:
                faults.append(f"{name} = {getattr(self, name)!r} (supported: {allowed!r})")
        if scaling or (self.rope_parameters or {}).get("rope_type", "default") != "default":
            faults.append(f"rope_scaling = {scaling or self.rope_parameters!r} (supported: null)")
        if self.hidden_size % self.num_attention_heads:
            faults.append("hidden_size is not a multiple of num_attention_heads")
        if self.num_attention_heads % self.num_key_value_heads:
            faults.append("num_attention_heads is not a multiple of num_key_value_heads")
        refuse_unsupported("Dream", faults)
        self.rope_theta = resolve_rope_theta(self.rope_theta, self.rope_parameters, default=1e6)
        self.rope_parameters = {"rope_type": "default", "rope_theta": self.rope_theta}
        super().__post_init__(**kwargs)


class DreamAttention(nn.Module):
    """Bidirectional grouped-query attention; q, k and v have a bias, o has none."""

    def __init__(self, config: DreamConfig) -> None:
        super().__init__()
        self.head_width = config.hidden_size // config.num_attention_heads
        self.dropout = config.attention_dropout
        keys_width = (config.num_key_value_heads or 0) * self.head_width
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, keys_width)
        self.v_proj = nn.Linear(config.hidden_size, keys_width)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self, hidden: Tensor, mask: Tensor | None, cos: Tensor, sin: Tensor, eager: bool
    ) -> Tensor:
        """Mixed values (B, L, D); `cos` and `sin` come in the dtype of the activations."""
        query, key, value = (
            projection(hidden).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = attend(
            rotate(query, cos, sin),
            rotate(key, cos, sin),
            value,
            mask=mask,
            eager=eager,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.o_proj(mixed)


class DreamMLP(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases."""

    def __init__(self, config: DreamConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        return self.down_proj(nn.functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden))


class DreamLayer(GradientCheckpointingLayer):
    """One pre-norm block."""

    def __init__(self, config: DreamConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = DreamAttention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = DreamMLP(config)

    def forward(
        self, hidden: Tensor, mask: Tensor | None, cos: Tensor, sin: Tensor, eager: bool
    ) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), mask, cos, sin, eager)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class DreamTrunk(nn.Module):
    """Embeddings, blocks and final norm: everything but the head."""

    def __init__(self, config: DreamConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(DreamLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = RotaryTable(
            config.hidden_size // config.num_attention_heads, config.rope_theta or 0.0
        )

    def forward(
        self,
        embedded: Tensor,
        mask: Tensor | None,
        position_ids: Tensor,
        eager: bool,
        record: list[Tensor] | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, (B, L, D), position i predicting token i + 1.

        Appends the input of every block and the result to `record` when it is given.
        """
        # Upstream multiplies q and k with tables rounded to the activation dtype.
        cos, sin = (table.to(embedded.dtype) for table in self.rotary(position_ids))
        hidden = embedded
        for layer in self.layers:
            if record is not None:
                record.append(hidden)
            hidden = layer(hidden, mask, cos, sin, eager)
        hidden = self.norm(hidden)
        if record is not None:
            record.append(hidden)
        return hidden


class DreamModel(NativeModel):
    """Dream with its head; parameter names are the published checkpoint's."""

    config_class = DreamConfig
    base_model_prefix = "model"
    _no_split_modules: ClassVar[list[str]] = ["DreamLayer"]
    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: DreamConfig) -> None:
        super().__init__(config)
        self.model = DreamTrunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding, which peft and gradient checkpointing ask for."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Final hidden states, shifted right by one so that position i predicts token i.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L), non-zero for real tokens; None when nothing is padding.

        Returns:
            (B, L, D); index 0 holds its own state twice, and nothing predicts the first token.
        """
        hidden = self._run(input_ids, None, attention_mask, None, None)
        return torch.cat((hidden[:, :1], hidden[:, :-1]), dim=1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., D), in the model dtype."""
        return self.lm_head(hidden)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        num_logits_to_keep: int = 0,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> MaskedLMOutput | tuple[Any, ...]:
        """Unshifted logits, as the original: position i predicts token i + 1.

        Args:
            input_ids: (B, L) int64, or None with `inputs_embeds`.
            attention_mask: (B, L), non-zero for real tokens, or (B, 1, L, L), see `attendable`.
            position_ids: (B, L); default 0..L-1.
            inputs_embeds: (B, L, D) in place of `input_ids`.
            num_logits_to_keep: Compute the head for the last positions only; 0 means all.
            output_hidden_states: Return the input of every block and the final state.
            output_attentions: Not available; True is an error.
            return_dict: False returns a plain tuple.
        """
        if output_attentions:
            raise ModelError("attention weights are not returned: call without output_attentions")
        record: list[Tensor] | None = [] if output_hidden_states else None
        source = input_ids if inputs_embeds is None else inputs_embeds
        if source is None or (input_ids is not None and inputs_embeds is not None):
            raise ModelError("forward needs either input_ids or inputs_embeds")
        if position_ids is None:
            position_ids = positions_from(None, source.shape[1], source.device)
        hidden = self._run(input_ids, inputs_embeds, attention_mask, position_ids, record)
        logits = self.lm_head(hidden[:, -num_logits_to_keep:])
        output = MaskedLMOutput(logits=logits, hidden_states=tuple(record) if record else None)
        return output if return_dict in (None, True) else output.to_tuple()

    def prepare_inputs_for_generation(self, input_ids: Tensor, **options: Any) -> dict[str, Any]:
        """What peft's causal wrapper asks for; there is no cache, every step runs the whole canvas."""
        return {"input_ids": input_ids, "attention_mask": options.get("attention_mask")}

    def _run(
        self,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        record: list[Tensor] | None,
    ) -> Tensor:
        embedded = self.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            position_ids = positions_from(attention_mask, embedded.shape[1], embedded.device)
        mask = attendable(attention_mask)
        return self.model(embedded, mask, position_ids, self.uses_eager_attention, record)


def init_std(config: DreamConfig) -> float:
    """Standard deviation of freshly drawn matrices."""
    return config.initializer_range


CONFIG = DreamConfig
NETWORK = DreamModel
TASK_TYPE = "FEATURE_EXTRACTION"
"""peft's task type in the release's adapters of this family."""
MASK_TOKEN = "<|mask|>"
END_TOKENS = ("<|im_end|>",)
"""Tokens that end an answer besides eos."""

AutoConfig.register("Dream", DreamConfig, exist_ok=True)
AutoModel.register(DreamConfig, DreamModel, exist_ok=True)
