"""What a distillation would do, for dry runs: counts, upper bounds and files. Loads no model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tabom_cli.core.data.prompts import PromptReport, load_prompts
from tabom_cli.core.distillation.config import DistillConfig
from tabom_cli.core.distillation.jobs import Shard, decode_warnings
from tabom_cli.core.distillation.manifest import manifest_path


@dataclass(frozen=True)
class DistillPlan:
    """What would be made.

    Attributes:
        prompts: Counts of the prompts.
        num_rows: Answers in all.
        max_forwards: Upper bound of model calls of one process that makes all rows.
        max_row_forwards: Upper bound of forward passes summed over rows.
        max_tokens: Response tokens in all, end-of-text tails included.
        files: Files that would be written, in the order in which they appear.
        warnings: Settings worth a second thought.
    """

    prompts: PromptReport
    num_rows: int
    max_forwards: int
    max_row_forwards: int
    max_tokens: int
    files: tuple[Path, ...]
    warnings: tuple[str, ...]


def plan(
    config: DistillConfig, *, output: Path, world_size: int = 1, shard: Shard | None = None
) -> DistillPlan:
    """What `distill` with the same arguments would do.

    Args:
        config: The distill section.
        output: Trajectory file.
        world_size: Processes that share the rows.
        shard: Part of the rows; all without one.

    Raises:
        DataError: The prompts cannot be read or judged.
    """
    prompts, report = load_prompts(config.prompts, need_references=config.need_references)
    num_rows = len(prompts) * config.num_samples
    if shard:
        num_rows = len(range(shard.index - 1, num_rows, shard.count))
    decode = config.decode
    batches = -(-num_rows // decode.batch_size)
    return DistillPlan(
        prompts=report,
        num_rows=num_rows,
        max_forwards=batches * decode.steps,
        max_row_forwards=num_rows * decode.steps,
        max_tokens=num_rows * decode.max_new_tokens,
        files=(*shard_paths(output, range(world_size)), output, manifest_path(output)),
        warnings=(*decode_warnings(decode), *report.warnings()),
    )


def shard_path(output: Path, rank: int) -> Path:
    """The file that one of several processes writes until all are done."""
    return output.with_name(f"{output.name}.rank{rank}")


def shard_paths(output: Path, ranks: Collection[int]) -> tuple[Path, ...]:
    """Shards of these processes; a single process writes the output itself and has none."""
    return tuple(shard_path(output, rank) for rank in ranks) if len(ranks) > 1 else ()
