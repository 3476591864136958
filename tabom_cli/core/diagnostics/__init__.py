"""Measurements of decodes: the Trajectory Discrimination Score and its picture."""
