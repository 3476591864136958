"""The only place that drives lm-eval: it builds tasks, renders prompts and scores answers.

Relies on names inside lm-eval that its version range in pyproject.toml pins: `_yaml_loader`, and
the calls that `quiet` replaces. Knows neither models nor files; answers come from a callable.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from typing import Any
from unittest import mock

from tabom_cli.core.errors import DataError, EnvironmentNotReady, TabomError, UsageError
from tabom_cli.core.evaluation.records import Request, make_request
from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec

_CHECKERS = "lm_eval.tasks.ifeval.instructions"

CompletionSource = Callable[[Sequence[Request]], Sequence[str]]
"""Answers requests in their order: from a file, a lookup table or a sampler."""


def harness_version() -> str:
    """The installed version of lm-eval."""
    return version("lm_eval")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval from printing and from starting processes while the block runs.

    Its evaluator asks git for a revision (which complains outside a repository) and runs torch's
    environment report (seconds of subprocesses); its progress bars ignore our console.
    It also compiles each template anew for every row, most of its time, so those are kept.
    """
    import datasets
    import lm_eval.api.task
    import lm_eval.evaluator
    import lm_eval.utils

    def plain(items: Iterable[Any], *_: Any, **__: Any) -> Iterable[Any]:
        return items

    loggers = [logging.getLogger(name) for name in ("lm_eval", "lm-eval", "datasets", _CHECKERS)]
    templates = lm_eval.utils.env
    levels = [logger.level for logger in loggers]
    with ExitStack() as stack:
        for target, name, value in (
            (lm_eval.evaluator, "get_git_commit_hash", lambda: None),
            (lm_eval.evaluator, "add_env_info", lambda storage: None),
            (lm_eval.api.task, "tqdm", plain),
            (templates, "from_string", functools.lru_cache(maxsize=256)(templates.from_string)),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        for logger in loggers:
            # The checkers report every answer without a language, random models make many.
            logger.setLevel(logging.CRITICAL if logger.name == _CHECKERS else logging.ERROR)
        bars_were_on = not datasets.are_progress_bars_disabled()
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            if bars_were_on:
                datasets.enable_progress_bars()
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def task_config(spec: TaskSpec, settings: TaskSettings) -> dict[str, Any]:
    """The dictionary that lm-eval loads for a task.

    Raises:
        EnvironmentNotReady: A package that the task's own helpers need is missing.
        UsageError: The task asks for log-likelihoods.
    """
    try:
        config = spec.config(settings)
    except (ImportError, AssertionError) as error:
        # minerva_math's helpers report a wrong antlr4 as an AssertionError.
        raise EnvironmentNotReady(
            f"task '{spec.name}' cannot be built: {error}",
            hint="install the evaluation packages: pip install 'lm-eval[math,ifeval]'",
        ) from error
    if config.get("output_type", "generate_until") != "generate_until":
        raise UsageError(
            f"task '{spec.name}' has output_type {config['output_type']}; only generate_until works"
        )
    return config


def load_task(spec: TaskSpec, settings: TaskSettings) -> Any:
    """lm-eval's task object with its data.

    Raises:
        EnvironmentNotReady: There is no data folder and the Hub cannot be reached, or `task_config`.
        DataError: The local data does not fit.
    """
    from lm_eval.tasks import TaskManager

    config = task_config(spec, settings)
    with _data_faults(spec, settings, is_loading=True):
        return TaskManager(include_defaults=False).load([config])["tasks"][spec.name]


@contextmanager
def _data_faults(
    spec: TaskSpec, settings: TaskSettings, *, is_loading: bool = False
) -> Iterator[None]:
    """Name task and data when lm-eval fails on a row, or when datasets cannot reach the Hub.

    Both raise types of many libraries for one and the same cause.
    """
    try:
        yield
    except TabomError:
        raise
    except Exception as error:
        if not spec.files:
            raise
        cause = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if settings.data_dir is None and is_loading:
            raise EnvironmentNotReady(
                f"task '{spec.name}': its data cannot be fetched from the Hub: {cause}",
                hint="without a network give --data-dir DIR, which "
                f"`tabom data pull DIR {spec.name}` fills on a connected machine",
            ) from error
        places = [
            file.path if settings.data_dir is None else str(settings.data_dir / file.path)
            for file in spec.files
        ]
        shots = f" with {settings.num_fewshot} shots" if settings.num_fewshot else ""
        raise DataError(
            f"{', '.join(places)}: does not fit task '{spec.name}'{shots}: {cause}",
            hint="fetch the published data with `tabom data pull`"
            + (", or lower eval.num_fewshot" if shots else ""),
        ) from error


def render_requests(
    specs: Sequence[TaskSpec], settings: TaskSettings, *, seed: int, num_samples: int = 1
) -> tuple[list[Request], dict[str, str]]:
    """Let lm-eval render every prompt as chat messages.

    Args:
        specs: The tasks.
        settings: Data, shots and limit, the same for all tasks.
        seed: Picks few-shot examples where a task draws them, and seeds every row's sampler.
        num_samples: Answers wanted per problem.

    Returns:
        The requests in the order of tasks and problems, and the version of each task.
    """
    requests: list[Request] = []
    versions: dict[str, str] = {}
    with quiet():
        for spec in specs:
            task = load_task(spec, settings)
            versions[spec.name] = str(task.VERSION)
            task.set_fewshot_seed(seed=seed)
            with _data_faults(spec, settings):
                task.build_all_requests(
                    limit=settings.limit,
                    apply_chat_template=True,
                    fewshot_as_multiturn=True,
                    chat_template=_messages_as_json,
                    tokenizer_name="tabom",
                )
            requests.extend(
                _request(instance, seed=seed, sample_index=sample)
                for instance in task.instances
                for sample in range(num_samples)
            )
    return requests, versions


def evaluate(
    spec: TaskSpec,
    settings: TaskSettings,
    source: CompletionSource,
    *,
    seed: int,
    sample_index: int = 0,
) -> dict[str, Any]:
    """Score one task with lm-eval, answers taken from `source`.

    Returns:
        lm-eval's results: `results`, `samples`, `versions`, `higher_is_better` and more.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    with quiet():
        results = simple_evaluate(
            model=completion_lm(source, seed=seed, sample_index=sample_index),
            tasks=[load_task(spec, settings)],
            limit=settings.limit,
            bootstrap_iters=0,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
            task_manager=TaskManager(include_defaults=False),
            random_seed=seed,
            numpy_random_seed=seed % 2**32,
            torch_random_seed=None,
            fewshot_random_seed=seed,
            confirm_run_unsafe_code=settings.allow_code_execution,
        )
    return dict(results)


def completion_lm(source: CompletionSource, *, seed: int, sample_index: int = 0) -> Any:
    """An lm-eval `LM` whose `generate_until` takes its answers from `source`.

    The same class serves a file of completions, a lookup table in tests and a live sampler. Its
    chat template is the messages themselves, so that the model's template is applied where the
    model is. Log-likelihoods are refused.
    """
    from lm_eval.api.model import LM

    class CompletionLM(LM):
        @property
        def tokenizer_name(self) -> str:
            return "tabom"

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            return _messages_as_json(chat_history, add_generation_prompt)

        def generate_until(self, requests: list[Any]) -> list[str]:
            asked = [_request(item, seed=seed, sample_index=sample_index) for item in requests]
            return list(source(asked))

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            raise UsageError("a masked diffusion model offers no log-likelihoods")

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            raise UsageError("a masked diffusion model offers no log-likelihoods")

    return CompletionLM()


def _messages_as_json(
    chat_history: Sequence[dict[str, str]], add_generation_prompt: bool = True
) -> str:
    return json.dumps(list(chat_history), ensure_ascii=True)


def _request(instance: Any, *, seed: int, sample_index: int) -> Request:
    """The request of an lm-eval instance, whose context is a chat as JSON."""
    context, options = instance.args[:2]
    messages = json.loads(context)
    gen_prefix = messages.pop()["content"] if messages[-1]["role"] == "assistant" else None
    until = options.get("until") or []
    return make_request(
        instance.task_name,
        instance.doc_id,
        messages=messages,
        gen_prefix=gen_prefix,
        until=[until] if isinstance(until, str) else until,
        max_new_tokens=options.get("max_gen_toks"),
        seed=seed,
        sample_index=sample_index,
    )
