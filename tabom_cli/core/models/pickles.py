"""Pickled weights: they are refused, with the command that converts them.

Knows file names only; imports no torch.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from tabom_cli.core.errors import ModelError

_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_WEIGHT_NAMES = ("pytorch_model", "adapter_model")
# Of tensors that share memory, as tied heads do, the first is kept; safetensors refuses both.
_CONVERT = (
    "import sys, torch, safetensors.torch as s; "
    "w = {k: v for f in sys.argv[2:] "
    "for k, v in torch.load(f, map_location='cpu', weights_only=True).items()}; "
    "first = {v.data_ptr(): k for k, v in reversed(w.items())}; "
    "s.save_file({k: w[k].clone().contiguous() for k in first.values()}, sys.argv[1])"
)


def refuse_pickles(folder: Path, target: str) -> None:
    """Raise when the folder holds pickled weights in place of safetensors.

    Args:
        folder: Where safetensors were looked for and not found.
        target: Name of the safetensors file that the conversion should write.

    Raises:
        ModelError: There are `.bin`, `.pt`, `.pth` or `.ckpt` files; the hint converts all of them
            into one file. Beside files with the usual names of weights, others (training_args.bin,
            optimizer.pt) are no weights.
    """
    pickles = sorted(path.name for pattern in _PATTERNS for path in folder.glob(pattern))
    pickles = [name for name in pickles if name.startswith(_WEIGHT_NAMES)] or pickles
    if pickles:
        paths = " ".join(shlex.quote(str(folder / name)) for name in (target, *pickles))
        raise ModelError(
            f"{folder}: weights are pickles ({', '.join(pickles)}), which can run code when read",
            hint=f'only safetensors are read; convert with: python -c "{_CONVERT}" {paths}',
        )
