"""The first prompts of a task with their answers, to look at before hours of decoding.

What is shown is part of the run: the answers are kept and counted like all others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tabom_cli.core.evaluation.records import Request, read_completions, read_requests
from tabom_cli.core.files import write_text_atomic

if TYPE_CHECKING:
    from tabom_cli.core.evaluation.job import EvalJob, Group
    from tabom_cli.core.models.base import DiffusionLM

NUM_PREVIEWS = 2
"""Problems per task that are shown."""
SHOWN_LINES = 12
"""Lines at either end of a prompt or answer that are shown; the file has all."""
FILE_NAME = "previews.txt"


@dataclass(frozen=True)
class Preview:
    """One prompt and what became of it.

    Attributes:
        task: Task name.
        doc_index: Row of the problem.
        prompt: The prompt as the model sees it, special tokens included.
        answer: The answer's text.
        extracted: What the harness takes out of it, None where lm-eval is not at hand.
        target: The reference, None likewise.
        score: Its score, None likewise.
    """

    task: str
    doc_index: int
    prompt: str
    answer: str
    extracted: str | None = None
    target: str | None = None
    score: float | None = None

    def text(self) -> str:
        """The preview as lines for a person."""
        return self._text(self.prompt, self.answer)

    def short_text(self) -> str:
        """The preview without the middle of a long prompt or answer."""
        return self._text(_ends(self.prompt), _ends(self.answer))

    def _text(self, prompt: str, answer: str) -> str:
        lines = [f"{self.task} problem {self.doc_index}, prompt:", prompt, "answer:", answer]
        if self.extracted is not None:
            lines += [f"extracted: {self.extracted!r}", f"reference: {self.target!r}"]
            lines += [f"score: {self.score:g}"]
        return "\n".join(lines)


def write_previews(folder: Path, previews: Sequence[Preview]) -> Path:
    """Write the whole texts of previews into the result folder."""
    path = folder / FILE_NAME
    write_text_atomic(path, "\n\n".join(preview.text() for preview in previews) + "\n")
    return path


def preview_ids(requests_path: Path, tasks: Collection[str]) -> set[str]:
    """Ids of the requests that are shown."""
    return {item.id for item in read_requests(requests_path)[1] if _is_shown(item, tasks)}


def read_previews(
    job: EvalJob, group: Group, model: DiffusionLM, *, extract: bool = True
) -> list[Preview]:
    """The previews of a group, whose answers exist already.

    Args:
        job: The job, for its data and consent.
        group: Its tasks share the files that are read.
        model: Its tokenizer renders the prompts.
        extract: Score the answers too, which needs lm-eval.
    """
    from tabom_cli.core.evaluation.generate import rendered_prompt

    _, requests = read_requests(group.requests)
    _, completions = read_completions(group.completions)
    scores = {}
    if extract:
        from tabom_cli.core.evaluation.score import score

        scored = score(
            group.requests,
            group.completions,
            tasks=group.tasks,
            data_dir=job.data_dir,
            allow_code_execution=job.consent,
            only_first=NUM_PREVIEWS,
        )
        scores = {sample.request_id: sample for item in scored for sample in item.samples}
    found = []
    for request in requests:
        if not _is_shown(request, group.tasks):
            continue
        sample = scores.get(request.id)
        found.append(
            Preview(
                task=request.task,
                doc_index=request.doc_index,
                prompt=rendered_prompt(model, request, group.plans[0].max_prompt_length),
                answer=completions[request.id].text,
                extracted=None if sample is None else sample.extracted,
                target=None if sample is None else sample.target,
                score=None if sample is None else sample.score,
            )
        )
    return found


def _ends(text: str) -> str:
    lines = text.split("\n")
    hidden = len(lines) - 2 * SHOWN_LINES
    if hidden <= 1:
        return text
    middle = f"... {hidden} lines, see {FILE_NAME} ..."
    return "\n".join((*lines[:SHOWN_LINES], middle, *lines[-SHOWN_LINES:]))


def _is_shown(request: Request, tasks: Collection[str]) -> bool:
    return request.task in tasks and request.doc_index < NUM_PREVIEWS and request.sample_index == 0
