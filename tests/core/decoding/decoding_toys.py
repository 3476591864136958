"""A toy policy and a loop-for-loop sampler, shared by the decoding tests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.records import DecodeRequest, DecodeResult, StepView

VOCABULARY = 12
MASK = 11
EOS = 0
PAD = 10


class ToyPolicy:
    """Logits from a table per response position, moved by a hash of the row's real tokens.

    The last column of hidden states is the context; padding never enters it. `sway` 0 gives fixed logits.
    """

    mask_token_id = MASK
    eos_token_id = EOS
    pad_token_id = PAD

    def __init__(self, table_TV: Tensor, *, sway: float = 0.0) -> None:
        self.table_TV = table_TV.float()
        self.sway = sway
        self.num_forwards = 0
        self.num_head_positions = 0
        self.largest_head_call = 0
        self.widths: list[tuple[int, int]] = []

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        self.num_forwards += 1
        self.widths.append((input_ids.shape[0], input_ids.shape[1]))
        real_BL = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        batch, length = input_ids.shape
        response_length = len(self.table_TV)
        distance_L = torch.arange(length, 0, -1)
        context_B = ((input_ids + 1) * distance_L * real_BL).sum(dim=1) % 89
        hidden = torch.zeros(batch, length, response_length + 1)
        for position in range(response_length):
            hidden[:, length - response_length + position, position] = 1.0
        hidden[:, :, -1] = context_B[:, None].float()
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        self.num_head_positions += hidden.shape[0]
        self.largest_head_call = max(self.largest_head_call, hidden.shape[0])
        position = hidden[:, :-1].argmax(dim=-1)
        wave = torch.sin(
            hidden[:, -1:] * (torch.arange(VOCABULARY) + 1.3) + position[:, None].float()
        )
        return self.table_TV[position] + self.sway * wave


def toy(response_length: int, *, seed: int = 0, sway: float = 1.5, scale: float = 2.0) -> ToyPolicy:
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(response_length, VOCABULARY, generator=generator) * scale
    return ToyPolicy(table, sway=sway)


def requests(lengths: Sequence[int]) -> list[DecodeRequest]:
    """Prompts of the given lengths with distinct tokens and seeds."""
    return [
        DecodeRequest(
            id=f"r{index}",
            prompt_token_ids=tuple((index * 5 + token * 3) % 9 + 1 for token in range(length)),
            seed=100 + index,
        )
        for index, length in enumerate(lengths)
    ]


class Watcher:
    """Keeps every view."""

    def __init__(self) -> None:
        self.before: list[StepView] = []
        self.after: list[StepView] = []

    def before_reveal(self, view: StepView) -> None:
        self.before.append(view)

    def after_reveal(self, view: StepView) -> None:
        self.after.append(view)


def softmax(values: Sequence[float]) -> list[float]:
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    return [weight / sum(weights) for weight in weights]


def plain_entropy(probabilities: Sequence[float]) -> float:
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def filtered(logits: Sequence[float], top_p: float | None, top_k: int | None) -> list[float]:
    kept = set(range(len(logits)))
    probabilities = softmax(logits)
    if top_p is not None:
        kept, mass = set(), 0.0
        for token in sorted(kept_order(logits)):
            token = kept_order(logits)[len(kept)]
            kept.add(token)
            mass += probabilities[token]
            if mass > top_p:
                break
    if top_k is not None:
        best = sorted((logits[token] for token in kept), reverse=True)[:top_k]
        kept = {token for token in kept if logits[token] >= best[-1]}
    return [value if token in kept else -math.inf for token, value in enumerate(logits)]


def kept_order(logits: Sequence[float]) -> list[int]:
    return sorted(range(len(logits)), key=lambda token: (-logits[token], token))


def plain_decode(
    policy: ToyPolicy, request: DecodeRequest, config: DecodeConfig
) -> tuple[DecodeResult, list[list[int]]]:
    """The Dream sampler with its record, one row and one position at a time.

    Returns the result (num_forwards counts steps that revealed something) and the canvas after each
    step. Only schedules, K and threshold with the certainties of Dream and LLaDA's low_confidence.
    """
    length = config.max_new_tokens
    generator = torch.Generator().manual_seed(request.seed)
    canvas = [MASK] * length
    order, recorded = [-1] * length, [-1.0] * length
    history: list[list[int]] = []
    step = num_forwards = 0
    block_length = config.block_length or length
    num_blocks = length // block_length
    for block in range(num_blocks):
        steps = config.steps // num_blocks + (block < config.steps % num_blocks)
        times = torch.linspace(1.0, config.eps, steps + 1, dtype=torch.float32)
        for inner in range(steps):
            masked = [
                r
                for r in range(block * block_length, (block + 1) * block_length)
                if canvas[r] == MASK
            ]
            if not masked and (config.tokens_per_step or config.threshold or MASK not in canvas):
                break
            if inner == steps - 1:
                count: int | None = len(masked)
            elif config.threshold is not None:
                count = None
            elif config.tokens_per_step is not None:
                count = min(config.tokens_per_step, len(masked))
            elif config.schedule == "even":
                count = block_length // steps + (inner < block_length % steps)
                count = min(count, len(masked))
            else:
                fraction = 1 - times[inner + 1] / times[inner]
                count = int(torch.tensor(float(len(masked))) * fraction)
            if count != 0:
                num_forwards += 1
                ids = torch.tensor([*request.prompt_token_ids, *canvas])[None]
                logits_TV = policy.logits(policy.hidden(ids)[0, -length:]).tolist()
                uniforms = None
                if config.token_pick == "sample" and config.temperature > 0:
                    uniforms = torch.rand(len(masked), generator=generator, dtype=torch.float64)
                scored = []
                for index, r in enumerate(masked):
                    uniform = None if uniforms is None else float(uniforms[index])
                    token, certainty = _propose(logits_TV[r], config, uniform)
                    scored.append((-certainty, r, token))
                scored.sort()
                if count is None:
                    assert config.threshold is not None
                    count = max(1, sum(-c >= config.threshold for c, _, _ in scored))
                for _, r, token in scored[:count]:
                    canvas[r], order[r] = token, step
                    recorded[r] = plain_entropy(softmax(logits_TV[r]))
            step += 1
            history.append(list(canvas))
    result = DecodeResult(request.id, canvas, order, recorded, step, num_forwards)
    return result, history


def _propose(logits: list[float], config: DecodeConfig, uniform: float | None) -> tuple[int, float]:
    raw = [-math.inf if token == MASK else value for token, value in enumerate(logits)]
    if config.eos_suppression == "logits":
        raw[EOS] = -math.inf
    divisor = config.temperature or 1.0
    proposal = softmax(filtered([v / divisor for v in raw], config.top_p, config.top_k))
    token = kept_order(raw)[0]
    if uniform is not None:
        mass = 0.0
        for token, probability in enumerate(proposal):  # noqa: B007
            mass += probability
            if mass > uniform:
                break
    ranking = proposal
    if config.confidence_temperature is not None:
        ranking = softmax([v / config.confidence_temperature for v in raw])
    elif config.strategy == "low_confidence":
        ranking = softmax(raw)
    if config.threshold is not None:
        return token, max(softmax(raw))
    if config.strategy == "entropy":
        return token, -plain_entropy(ranking)
    if config.strategy == "topk_margin":
        best = sorted(ranking, reverse=True)
        return token, best[0] - best[1]
    return token, ranking[token]
