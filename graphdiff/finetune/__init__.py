"""Rewards, and what guides or tunes a model by them."""
