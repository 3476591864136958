"""What must hold before a phase of an evaluation begins: each check refuses with one error.

Knows jobs and their files; does no phase.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabom_cli.core.errors import RunError, UsageError
from tabom_cli.core.evaluation.records import (
    completion_files,
    read_completions,
    read_requests,
    unlike_header,
)

if TYPE_CHECKING:
    from tabom_cli.core.evaluation.job import EvalJob, Group
    from tabom_cli.core.models.base import DiffusionLM


def check_requests(job: EvalJob) -> None:
    """Check that the prompts were made, for a machine that only answers.

    Raises:
        UsageError: A requests file is missing.
    """
    missing = [str(group.requests) for group in job.groups if not group.requests.is_file()]
    if missing:
        raise UsageError(
            f"{', '.join(missing)}: no such file",
            hint="make it on a machine with lm-eval: the same command with --phase requests",
        )


def check_scoring(job: EvalJob) -> None:
    """Check consent and sandbox before hours of decoding, not after.

    Raises:
        UsageError: A task runs code and there is no consent.
        EnvironmentNotReady: The sandbox does not work here.
    """
    from tabom_cli.core.evaluation.score import check_consent

    check_consent([plan.spec for plan in job.plans], job.consent)


def check_folder(job: EvalJob, model: DiffusionLM) -> None:
    """Refuse (RunError) a folder that holds answers of another model, even to other tasks."""
    from tabom_cli.core.evaluation.identity import weights_hash

    own = weights_hash(model.network)
    for path in sorted(job.folder.glob("completions*.jsonl")):
        if ".rank" in path.name or not completion_files(path):
            continue
        header, _ = read_completions(path)
        if header is not None and header.weights_hash != own:
            adapter = f" + {header.adapter}" if header.adapter else ""
            raise RunError(
                f"{path} holds answers of other weights ({header.model}{adapter}, "
                f"hash {header.weights_hash}; now {model.name}, hash {own})",
                hint="another model, adapter or dtype: choose another --output folder",
            )


def check_family(job: EvalJob, model: DiffusionLM) -> None:
    """Refuse (UsageError) presets of another family, which was guessed before the model was here."""
    if job.family != model.family and any(plan.profile for plan in job.plans):
        raise UsageError(
            f"{job.checkpoint} is of family '{model.family}', and its settings were picked for "
            f"'{job.family}'",
            hint="run the same command again, now that its config is on this machine, or name a "
            "recipe of its family with --recipe",
        )


def check_answers(group: Group) -> None:
    """Refuse (RunError) to score answers as if they had been made with the plan's settings."""
    plan = group.plans[0]
    header, _ = read_completions(group.completions)
    if header is None:
        return
    differing = unlike_header(
        header,
        decode=plan.decode.model_dump(mode="json"),
        max_prompt_length=plan.max_prompt_length,
        answer_end=plan.answer_end,
    )
    shots = read_requests(group.requests)[0].num_fewshot
    if shots != plan.num_fewshot:
        differing.append(f"num_fewshot {shots} against {plan.num_fewshot}")
    if differing:
        raise RunError(
            f"{group.completions} holds answers of other settings: {'; '.join(differing)}",
            hint="score with the command that made them: the same --recipe, --profile and --set",
        )
