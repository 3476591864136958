"""`tabom export`: merge an adapter into its base and write a plain checkpoint folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tabom_cli import console
from tabom_cli.commands import runs
from tabom_cli.core.errors import ModelError, RunError, UsageError

if TYPE_CHECKING:
    from tabom_cli.core.models.config import ModelConfig

Dtype = Literal["float32", "bfloat16", "float16"]


def export(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CKPT", help="Adapter, run folder or model.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder.")],
    dtype: Annotated[
        Dtype | None,
        typer.Option("--dtype", help="Type of the written weights; default the base's own."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Base of the adapter; default the one it names."),
    ] = None,
) -> None:
    """Merge an adapter into its base and write a plain checkpoint.

    The folder holds config.json, safetensors and the tokenizer, and is given as model.path or CKPT
    like any base. Merging is done in float32 and rounded once; in float32 the merged model computes
    the same logits.

    Example: tabom export tiny exported/tiny --dtype bfloat16
    """
    if folder.exists():
        raise RunError(f"{folder} exists and is not overwritten", "give a new folder")
    checkpoint = runs.newest_checkpoint(checkpoint)
    config = _model_config(checkpoint, base, dtype)
    _write(config, checkpoint, folder)
    console.note(f'next: tabom generate {folder} --prompt "..."')
    console.result(str(folder))


def _model_config(checkpoint: str, base: str | None, dtype: Dtype | None) -> ModelConfig:
    from tabom_cli.core.models.checks import stored_dtype
    from tabom_cli.core.models.config import ModelConfig
    from tabom_cli.core.models.source import find_source, inspect_checkpoint

    info = inspect_checkpoint(checkpoint)
    if info.kind == "base" and base is not None:
        raise UsageError(f"--base {base}: {checkpoint} is a whole model, not an adapter on one")
    base = base or (runs.named_base(info, "--base PATH") if info.kind == "adapter" else info.path)
    if base is None:
        raise ModelError(
            f"{checkpoint}: adapter_config.json does not name its base model",
            hint="name it with --base PATH",
        )
    return ModelConfig(
        path=base,
        adapter=info.path if info.kind == "adapter" else None,
        dtype=dtype or stored_dtype(find_source(base).folder),
    )


def _write(config: Any, checkpoint: str, folder: Path) -> None:
    from tabom_cli.core.models.export import export_model, exported_bytes
    from tabom_cli.core.models.load import load_model
    from tabom_cli.core.rundir import atomic_folder, disk_free_check, manifest, write_json_atomic

    console.note(f"loading {config.path} in {config.dtype}")
    model = load_model(config, device="cpu")
    disk_free_check(folder, exported_bytes(model))
    with atomic_folder(folder) as partial:
        export_model(model, partial)
        source = {"base": model.name, "revision": model.revision, "adapter": model.adapter}
        record = manifest(command=runs.command_line(), extra={**source, "dtype": config.dtype})
        write_json_atomic(partial / "manifest.json", record)
        for place in (Path(checkpoint), Path(checkpoint).parent):
            recipe = place / "recipe.resolved.yaml"
            if recipe.is_file():
                (partial / recipe.name).write_bytes(recipe.read_bytes())
                break
