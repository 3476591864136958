"""What a distillation has to make: one job per prompt and sample, with stable ids and seeds.

Knows settings and prompts; no model, no tensor, no output file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabom_cli.core.data.prompts import Prompt
from tabom_cli.core.data.records import stable_hash
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.errors import UsageError

_RELEASE_METHODS = {"low_confidence": "default"}
_RANKS_ON_PROPOSAL = frozenset({"entropy", "maskgit_plus", "topk_margin"})


@dataclass(frozen=True)
class Job:
    """One answer to make.

    Attributes:
        id: Row id: the prompt's id and the sample index.
        prompt: The question.
        seed: Seeds the row's generator; a function of (seed, prompt id, sample index).
    """

    id: str
    prompt: Prompt
    seed: int


@dataclass(frozen=True)
class Shard:
    """One part of a distillation that several runs share, such as the tasks of a job array.

    Attributes:
        index: This part, from 1.
        count: Parts in all.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from `2/8`.

        Raises:
            UsageError: Another form, or an index outside 1 to count.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        shard = cls(int(match.group(1)), int(match.group(2))) if match else None
        if shard is None or not 1 <= shard.index <= shard.count:
            raise UsageError(f"--shard {text}: expected i/n with i from 1 to n", "e.g. --shard 2/8")
        return shard

    def of(self, jobs: Sequence[Job]) -> list[Job]:
        """Every `count`-th job, so that parts differ by one row at most."""
        return list(jobs[self.index - 1 :: self.count])

    def path(self, output: Path) -> Path:
        """`t.jsonl` becomes `t.shard-2-of-8.jsonl`."""
        stem = output.name.removesuffix(".jsonl")
        return output.with_name(f"{stem}.shard-{self.index}-of-{self.count}.jsonl")


def make_jobs(prompts: Sequence[Prompt], *, num_samples: int, seed: int) -> list[Job]:
    """All jobs in prompt order, the samples of a prompt together."""
    return [
        Job(f"{prompt.id}-{sample}", prompt, row_seed(seed, prompt.id, sample))
        for prompt in prompts
        for sample in range(num_samples)
    ]


def row_seed(seed: int, prompt_id: str, sample: int) -> int:
    """63-bit seed of one row: equal on every machine, process count and resume."""
    digest = hashlib.sha256(f"{seed}\0{prompt_id}\0{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def decode_hash(config: DecodeConfig) -> str:
    """Hash of the decode settings that change results: all but the batch size."""
    return stable_hash(config.model_dump(mode="json", exclude={"batch_size"}))


def method_name(strategy: str) -> str:
    """The `method` of a row in the release's words: `low_confidence` is called `default` there."""
    return _RELEASE_METHODS.get(strategy, strategy)


def decode_warnings(config: DecodeConfig) -> list[str]:
    """Decode settings that make a recorded order say little; empty when there are none.

    Source: Dream issues 56 and 72: at temperature 0.1 and top-p 0.9 most positions become one-hot, their
    entropies tie at 0, and the tie-break by position makes the order left to right.
    """
    tempered = 0.0 < config.temperature < 1.0 and config.confidence_temperature is None
    if not tempered or config.strategy not in _RANKS_ON_PROPOSAL:
        return []
    return [
        f"positions are ranked on the distribution after temperature {config.temperature:g}"
        + (f" and top-p {config.top_p:g}" if config.top_p is not None else "")
        + ": many become certain at once, tie, and are taken from left to right, so the recorded "
        "order says little; --set distill.decode.confidence_temperature=1.0 ranks on the raw one"
    ]
