"""Command-line application for trajectory-aligned post-training of diffusion language models."""

__version__ = "0.1.0"
