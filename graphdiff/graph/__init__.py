"""Diffusion on graphs and molecules."""
