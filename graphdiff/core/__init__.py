"""The modality-free heart of graphdiff; imports torch and the standard library only.

Submodules are imported by name (``from graphdiff.core.rng import Key``): this file re-exports
nothing, so that importing one part never loads the others.
"""
