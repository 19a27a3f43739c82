"""Diffusion on biological sequences: DNA, RNA, proteins."""
