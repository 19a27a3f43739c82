"""Signed events in continuous time (SEMBA): streams, memories, models, baselines."""
