"""Evaluation in two phases: completions by our sampler, scores by lm-eval."""
