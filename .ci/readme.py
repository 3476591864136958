"""The generated parts of README.md: the tree, command help, strategies, recipe keys, original flags.

`make docs` writes them through cog; `make docs-check` fails when they are stale.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["TYPER_USE_RICH"] = "0"
os.environ["COLUMNS"] = "100"

ROOT = Path(__file__).parent.parent


def tree() -> str:
    """Every file of the package with the first sentence of its docstring."""
    lines = ["```text"]
    lines += list(_folder(ROOT / "tabom_cli", 0))
    others = {
        "recipes/": "one YAML file a recipe; packaged into the wheel",
        "benchmarks/": "measurements, and the demo",
        "tests/": "mirrors the package; fixtures/ holds golden data of the original code",
    }
    lines += [f"{name:<32} {text}" for name, text in others.items()]
    return "\n".join([*lines, "```"])


def commands() -> str:
    """The help of every command, as it is printed."""
    from typer.testing import CliRunner

    from tabom_cli.main import app

    parts = []
    for words in _command_paths():
        result = CliRunner().invoke(app, [*words, "--help"], prog_name="tabom")
        text = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        parts.append(f"### tabom {' '.join(words)}".rstrip() + f"\n\n```text\n{text}\n```")
    return "\n\n".join(parts)


def recipe_keys() -> str:
    """Every key of a recipe with its type, default and meaning."""
    from tabom_cli.core import plugins
    from tabom_cli.core.recipe.model import Recipe, objective_config

    rows = [row for row in _keys(Recipe, "") if not row[0].startswith("objective")]
    for name in plugins.names("objective"):
        rows += [
            (f"{key} ({name})", *rest) for key, *rest in _keys(objective_config(name), "objective.")
        ]
    lines = ["| key | default | meaning |", "|---|---|---|"]
    lines += [f"| `{key}` | {default} | {text} |" for key, default, text in rows]
    return "\n".join(lines)


def strategies() -> str:
    """Every decode strategy with what it does and its options."""
    from tabom_cli.core import plugins

    lines = ["| `decode.strategy` | what it does | `decode.options` |", "|---|---|---|"]
    for name in plugins.names("decode strategy"):
        fields = plugins.load("decode strategy", name).STRATEGY.Options.model_fields
        options = [
            f"`{key}` ({_default(field)}): {(field.description or '').rstrip('.')}"
            for key, field in fields.items()
        ]
        path = ROOT / "tabom_cli/core/decoding/strategies" / f"{name}.py"
        lines.append(f"| `{name}` | {_summary(path)} | {'<br>'.join(options)} |")
    return "\n".join(lines)


def flags() -> str:
    """Original flags and environment variables beside the recipe keys that replace them."""
    from tabom_cli.core.recipe.flags import ORIGINAL_FLAGS

    lines = ["| original | here |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{old}` | `{new}` |" for old, new in ORIGINAL_FLAGS.items())])


def demo_table() -> str:
    """The committed run of the demo as a Markdown table."""
    import json

    path = ROOT / "benchmarks" / "results" / "tiny.json"
    if not path.exists():
        return ""
    run = json.loads(path.read_text(encoding="utf-8"))
    names = list(run["results"])
    lines = [
        f"| task | {' | '.join(names)} | difference | {' | '.join(f'TDS {n}' for n in names)} |",
        "|---" * (2 + 2 * len(names)) + "|",
    ]
    for task in run["results"][names[0]]:
        values = [run["results"][name][task] for name in names]
        shown = [
            f"{100 * v['accuracy']:.2f} % ({100 * v['interval_95'][0]:.1f} to {100 * v['interval_95'][1]:.1f})"
            for v in values
        ]
        difference = 100 * (values[-1]["accuracy"] - values[0]["accuracy"])
        scores = " | ".join(f"{v['tds']:.3f}" for v in values)
        lines.append(f"| {task} | {' | '.join(shown)} | {difference:+.2f} | {scores} |")
    lines += [
        "",
        f"{run['num_problems']:,} problems per cell, {run['device']}, {run['date']}: `{run['command']}`",
    ]
    return "\n".join(lines)


def shapes_table() -> str:
    """The committed run of benchmarks/real_shapes.py as a Markdown table."""
    import json

    path = ROOT / "benchmarks" / "results" / "real_shapes.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    lines = ["| random weights, bfloat16 | Dream-7B | LLaDA-8B |", "|---|---|---|"]

    def row(label: str, part: str, show: Callable[[dict[str, Any]], str]) -> None:
        cells = (show(run[f"{family}: {part}"]) for family in ("dream", "llada"))
        lines.append(f"| {label} | {' | '.join(cells)} |")

    row(
        "load from disk; weights; host memory of its own",
        "load in bfloat16",
        lambda v: (
            f"{v['load_s']:.1f} s; {v['weights_gib']:.1f} GiB; {v['host_own_memory_growth_gib']:.2f} GiB"
        ),
    )
    row(
        "forward, 8 x 512 tokens",
        "forward",
        lambda v: f"{v['8 x 512: ms']:.0f} ms, peak {v['8 x 512: gpu_peak_gib']:.1f} GiB",
    )
    row(
        "decode 32 tokens in 8 rows",
        "decode 32 tokens",
        lambda v: (
            f"{v['greedy, 8 rows']['s']:.2f} s, peak {v['greedy, 8 rows']['gpu_peak_gib']:.1f} GiB"
        ),
    )
    for label, part in (("", "without"), (", gradient checkpointing", "with")):
        row(
            f"LoRA step of the recipe, 8 x 512 tokens{label}",
            f"train {part} checkpointing",
            lambda v: (
                f"{v['step_s']:.2f} s, peak {v['gpu_peak_gib']:.1f} GiB (estimate {v['estimate_gib']:.1f})"
            ),
        )
    row(
        "logits, bfloat16 against float32: mean difference / spread",
        "agreement with float32",
        lambda v: f"{v['bfloat16 vs float32, padded']['mean_over_std']:.3f}",
    )
    row(
        "the same, sdpa against eager in bfloat16",
        "agreement in bfloat16",
        lambda v: f"{v['sdpa vs eager, padded']['mean_over_std']:.3f}",
    )
    where = run["environment"]
    lines += [
        "",
        f"`python benchmarks/real_shapes.py` on one {where['gpu']}, torch {where['torch']}, "
        f"transformers {where['transformers']}, peft {where['peft']}.",
    ]
    return "\n".join(lines)


def _folder(folder: Path, depth: int) -> Iterator[str]:
    indent = "  " * depth
    package = folder / "__init__.py"
    yield f"{indent + folder.name + '/':<32} {_summary(package) if package.exists() else ''}".rstrip()
    for path in sorted(folder.iterdir(), key=lambda p: (p.is_dir(), p.name)):
        if path.is_dir() and path.name != "__pycache__" and any(path.glob("*.py")):
            yield from _folder(path, depth + 1)
        elif path.suffix == ".py" and path.name != "__init__.py":
            yield f"{indent + '  ' + path.name:<32} {_summary(path)}"


def _summary(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"\.(?: (?=[A-Z])|$)", paragraph)[0]


def _command_paths() -> Iterator[list[str]]:
    import typer

    from tabom_cli.main import app

    def walk(command: Any, words: list[str]) -> Iterator[list[str]]:
        yield words
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, [*words, name])

    yield from walk(typer.main.get_command(app), [])


def _keys(model: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    from tabom_cli.core.recipe.faults import section_class

    for name, field in model.model_fields.items():
        inner = section_class(field.annotation)
        text = " ".join((field.description or "").split()).replace("|", "\\|")
        if inner is not None and inner.model_fields and name != "settings":
            yield f"{prefix}{name}", "", text
            yield from _keys(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _default(field), text


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, tuple):
        value = list(value)
    return (
        f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"
    )
