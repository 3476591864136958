"""What a job would do and cost at most, before it does it. Loads nothing and writes nothing."""

from __future__ import annotations

from tabom_cli.core.evaluation.job import EvalJob
from tabom_cli.core.evaluation.plan import TaskPlan
from tabom_cli.core.evaluation.report import describe_decode
from tabom_cli.core.evaluation.results import FILE_NAME


def settings_lines(plan: TaskPlan) -> list[str]:
    """How a task is decoded, where that was taken from, and what the recipe sets in vain."""
    lines = [f"{describe_decode(plan.decode.model_dump())} ({plan.origin()})"]
    return [*lines, *filter(None, [plan.overruled_text()])]


def dry_run_rows(job: EvalJob) -> list[tuple[str, str]]:
    """What every task will cost at most and what would be written: (what, text) pairs."""
    rows: list[tuple[str, str]] = []
    for plan in job.plans:
        spec, decode = plan.spec, plan.decode
        rows += zip((spec.name, ""), settings_lines(plan), strict=False)
        known = [n for n in (job.limit, spec.num_problems) if n is not None]
        if known:
            count = min(known) * plan.num_samples
            forwards = -(-count // decode.batch_size) * decode.steps
            text = f"{count:,} answers, at most {forwards:,} batched forwards and "
            rows.append(("", f"{text}{count * decode.max_new_tokens:,} tokens"))
        for key, change in plan.overridden.items():
            text = f"{key} is {change['used']}, profile '{plan.profile}' has {change['preset']}"
            rows.append(("", text))
        if spec.executes_code:
            rows.append(("", f"runs generated code in the sandbox; consent: {job.consent}"))
    paths = [path for group in job.groups for path in (group.requests, group.completions)]
    return rows + [("would write", str(path)) for path in (*paths, job.folder / FILE_NAME)]
