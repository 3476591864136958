"""The commands: options, help and wiring. Heavy imports happen inside the functions."""
