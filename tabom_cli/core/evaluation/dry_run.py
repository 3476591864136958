"""What a job would do and cost at most, for a dry run. Loads nothing and writes nothing."""

from __future__ import annotations

from tabom_cli.core.evaluation.job import EvalJob
from tabom_cli.core.evaluation.report import describe_decode
from tabom_cli.core.evaluation.results import FILE_NAME


def dry_run_rows(job: EvalJob) -> list[tuple[str, str]]:
    """What every task will cost at most and what would be written: (what, text) pairs."""
    rows = []
    for plan in job.plans:
        spec, decode = plan.spec, plan.decode
        rows.append((spec.name, describe_decode(decode.model_dump())))
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
