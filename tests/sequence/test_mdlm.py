"""Diffusion of token strings: laws by enumeration, conditions, likelihoods, training, the CLI."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mdlm_support import TOKENS, clean, config, law_of, perfect, task, words
from stats import accepted, chi2_pvalue, rejected

from graphdiff.core.errors import ArgumentError, ConfigError, DataError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.sequence.alphabet import DNA, PROTEIN
from graphdiff.sequence.draw import information, sequences_png
from graphdiff.sequence.infill import GIVEN
from graphdiff.sequence.likelihood import grid_log_likelihood, nelbo
from graphdiff.sequence.mdlm import MdlmTask
from graphdiff.sequence.mdlm_data import TrainingSequences, as_state
from graphdiff.sequence.score_entropy import LogScore, log_ratios, log_scores, score_entropy
from graphdiff.sequence.sequences import Sequences
from graphdiff.task import Samples

NOISES = ("absorbing", "uniform", "marginal")
MANY = 3000


def counts_of(tokens: torch.Tensor) -> torch.Tensor:
    """How often each word occurs."""
    place = torch.tensor([len(DNA) ** k for k in reversed(range(tokens.shape[1]))])
    return torch.bincount((tokens * place).sum(1), minlength=len(DNA) ** tokens.shape[1])


def toy(n: int = 200, seed: int = 0) -> Sequences:
    """Sequences whose letters follow one another: each is the next of the last, nearly always."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        length, first = rng.integers(5, 10), rng.integers(4)
        jumps = rng.random(length) < 0.05
        out.append("".join("ACGT"[(first + i + int(jumps[: i + 1].sum())) % 4] for i in range(length)))  # noqa: E501  # fmt: skip
    return Sequences.from_strings(out, DNA)


def prepared(sequences: Sequences | None = None, **changes) -> tuple[MdlmTask, TrainingSequences]:
    given = config(**changes)
    given["data"] = {"name": "own.fasta", **changes.get("data", {})}
    made = MdlmTask.from_config(given)
    data = TrainingSequences(sequences if sequences is not None else toy(), made.config.data)
    return made.prepared(data), data


# -- laws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["first_hitting", "confident"])
def test_samples_of_a_perfect_network_follow_the_law(solver):
    """One letter a step: no error is left, also where letters are revealed by confidence."""
    t = task()
    denoiser, exact = perfect(t)
    ids = torch.arange(MANY)
    template = t.template(ids, torch.full_like(ids, TOKENS), pad=TOKENS)
    drawn = t.sampler(solver=solver, steps=TOKENS)(denoiser, template, seed=1)["tokens"]
    counts, law = counts_of(drawn), law_of(exact)
    assert accepted(chi2_pvalue(counts, law))
    assert rejected(chi2_pvalue(counts, law_of(perfect(t, seed=1)[1])))


@pytest.mark.parametrize(("noise", "solver"), [
    ("absorbing", "first_hitting"), ("absorbing", "ancestral"), ("uniform", "ancestral"),
    ("marginal", "flow"),
])  # fmt: skip
def test_infilling_is_exact_under_absorbing_noise_and_never_changes_what_is_given(noise, solver):
    """The middle letter is given: the rest follows the conditional law."""
    t = task(noise={"kind": noise})
    denoiser, exact = perfect(t)
    ids = torch.arange(MANY if noise == "absorbing" else 200)
    template = t.template(ids, t.sizes(ids, 0, fixed=".G_"), pad=TOKENS, fixed=".G_")
    steps = TOKENS if solver == "first_hitting" else 64
    drawn = t.sampler(solver=solver, steps=steps)(denoiser, template, seed=2)["tokens"]
    assert (drawn[:, 1] == 2).all()
    if solver != "first_hitting":
        return
    law = torch.where(words()[:, 1] == 2, law_of(exact), 0.0)
    assert accepted(chi2_pvalue(counts_of(drawn), law))
    # A letter that is only put in its place in the end, unseen by the network, is another law.
    free = t.template(ids, torch.full_like(ids, TOKENS), pad=TOKENS)
    late = t.sampler(solver=solver, steps=TOKENS)(denoiser, free, seed=2)["tokens"].clone()
    late[:, 1] = 2
    assert rejected(chi2_pvalue(counts_of(late), law))


def test_the_network_always_sees_what_is_given():
    t = task()
    seen = []
    denoiser = t.build()
    inner = denoiser.net.net

    class Spy(torch.nn.Module):
        def forward(self, values, label, masks, cond=None):
            seen.append(values["tokens"].clone())
            assert cond is None
            return inner(values, label, masks, cond)

    denoiser.net.net = Spy()
    fixed = ["A..T.", "..GG.", "....."]
    ids = torch.arange(3)
    template = t.template(ids, t.sizes(ids, 0, fixed=fixed), pad=5, fixed=fixed)
    state = t.sampler(solver="remdm", eta=0.5, steps=9)(denoiser, template, seed=0)
    given = template[GIVEN]
    for tokens in (*seen, state["tokens"]):
        assert torch.equal(tokens[given >= 0], given[given >= 0])
    assert len(seen) == 9
    texts, _ = t.decode(state)
    assert all(a in (".", b) for p, x in zip(fixed, texts, strict=True) for a, b in zip(p, x, strict=True))  # noqa: E501  # fmt: skip


@pytest.mark.parametrize("solver", ["ancestral", "flow", "first_hitting", "remdm", "confident", "euler", "tau"])  # noqa: E501  # fmt: skip
def test_temperature(solver):
    """One letter: its law is p^(1/T), normalised; 0 is the likeliest, 1 changes nothing."""
    t = task()
    denoiser, exact = perfect(t, tokens=1)
    ids = torch.arange(MANY)
    template = t.template(ids, torch.ones_like(ids), pad=1)
    law = law_of(exact)

    def draw(temperature):
        sampler = t.sampler(solver=solver, steps=4, temperature=temperature, eta=0.0)
        return torch.bincount(sampler(denoiser, template, seed=3)["tokens"][:, 0], minlength=4)

    assert draw(0.0)[law.argmax()] == MANY
    sharp = law.square() / law.square().sum()
    assert accepted(chi2_pvalue(draw(0.5), sharp))
    assert rejected(chi2_pvalue(draw(0.5), law))
    assert accepted(chi2_pvalue(draw(1.0), law))


# -- likelihoods ----------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", NOISES)
def test_the_bound_of_a_perfect_network_is_the_likelihood(noise):
    t = task(noise={"kind": noise, "schedule": "linear"})
    denoiser, exact = perfect(t, tokens=2)
    law, rows = law_of(exact), words(2)
    copies = 40 if noise == "absorbing" else 240  # enough to notice a weight that is 5 % off
    state = clean(rows.repeat(copies, 1))
    found = nelbo(denoiser, state, Key(0, state.ids), draws=24, batch=4096).view(copies, -1)
    z = _z(found, -law.log(), law)
    assert abs(z) < 3.5
    assert abs(_z(1.05 * found, -law.log(), law)) > 3.5


def _z(found: torch.Tensor, truth: torch.Tensor, law: torch.Tensor) -> float:
    """Standard score of the mean over the law of estimates ``[copies, words]``."""
    each = ((found - truth) * law).sum(1)
    return float(each.mean() / (each.std() / len(each) ** 0.5))


def test_the_bound_is_one_and_does_not_depend_on_batch_or_padding():
    t = task()
    denoiser = t.build().eval()
    sequences = Sequences.from_strings(["ACGTACGTA", "AC", "GGGTT", "A"], DNA)
    ids = torch.tensor([5, 9, 2, 40])
    whole = nelbo(denoiser, sequences, Key(0, ids), draws=3)
    assert (whole > 0).all()
    for k in range(4):
        alone = nelbo(denoiser, sequences[k], Key(0, ids[k : k + 1]), draws=3)
        torch.testing.assert_close(whole[k : k + 1], alone, rtol=1e-6, atol=0)
    torch.testing.assert_close(whole, nelbo(denoiser, sequences, Key(0, ids), draws=3, batch=3))


def test_likelihood_on_a_grid():
    """For one letter the sum is (m_1 - m_end) log p in the mean; 5 % more would be noticed."""
    t = task()
    denoiser, exact = perfect(t, tokens=1)
    law = law_of(exact)
    copies = 1500
    state = clean(words(1).repeat(copies, 1))
    found = grid_log_likelihood(denoiser, state, Key(0, state.ids), steps=16)
    truth = law.log() * (1 - 1e-3) * (1 - 1e-5)
    each = -found.view(copies, -1)
    assert abs(_z(each, -truth, law)) < 3.5
    assert abs(_z(1.05 * each, -truth, law)) > 3.5
    uniform = perfect(task(noise={"kind": "uniform"}), tokens=1)[0]
    with pytest.raises(ArgumentError, match="absorbing"):
        grid_log_likelihood(uniform, state, Key(0, state.ids))


# -- score entropy --------------------------------------------------------------------------------


def exact_scores(exact, t: float) -> torch.Tensor:
    """``log p_t(x with x_i = y) - log p_t(x)`` at ``[x, i, y]``, from the marginals alone."""
    marginal, states = exact.marginal(t), exact.states
    place = torch.tensor([exact.classes**k for k in reversed(range(exact.tokens))])
    rows = (states * place).sum(1)
    out = torch.empty(*states.shape, exact.classes, dtype=torch.float64)
    for i in range(exact.tokens):
        for y in range(exact.classes):
            other = rows + (y - states[:, i]) * place[i]
            out[:, i, y] = marginal[other].log() - marginal.log()
    return out


@pytest.mark.parametrize("noise", NOISES)
def test_scores_and_predictions_say_the_same(noise):
    t = task(noise={"kind": noise})
    denoiser, exact = perfect(t, tokens=2)
    part, clock = denoiser.process["tokens"], torch.tensor(0.37, dtype=torch.float64)
    truth, logits = exact_scores(exact, 0.37), exact.denoiser(0.37)
    states = exact.states
    possible = exact.marginal(0.37) > 0
    found = log_ratios(part, logits.exp(), states, clock)
    seen = possible[:, None] & torch.ones_like(states, dtype=torch.bool)
    if noise == "absorbing":
        hidden = states == 4
        seen = seen & hidden
        alpha = float(part.schedule.alpha(0.37))
        sigma = -np.log(alpha)
        expected = logits - np.log(np.expm1(sigma))
        some = seen[..., None] & (torch.arange(5) < 4)
        torch.testing.assert_close(truth[some], expected[some], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(log_scores(part, logits, states, clock)[some], truth[some])
    finite = seen[..., None] & truth.isfinite()
    torch.testing.assert_close(found[finite], truth[finite], rtol=1e-9, atol=1e-9)
    if noise != "absorbing":
        back = LogScore().to_x0(part, truth, states, clock)
        torch.testing.assert_close(torch.softmax(back, -1), logits.exp(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("noise", NOISES)
def test_score_entropy_is_least_at_the_true_scores_and_is_the_bound_there(noise):
    t = task(noise={"kind": noise})
    denoiser, exact = perfect(t, tokens=2)
    part, at = denoiser.process["tokens"], 0.6
    joint = exact.law[:, None] * exact.noisy(at)  # [x0, x_t]
    pairs = (joint > 0).nonzero()
    weight = joint[pairs[:, 0], pairs[:, 1]]
    x0, x_t = exact.states[pairs[:, 0]], exact.states[pairs[:, 1]]
    clock = torch.full((len(pairs),), at, dtype=torch.float64)
    truth = exact_scores(exact, at)[pairs[:, 1]].clamp(min=-60).nan_to_num(-60.0)

    def loss(scores):
        return (weight * score_entropy(part, scores, x0, x_t, clock, None)).sum()

    best = loss(truth)
    logits = exact.denoiser(at)[pairs[:, 1]].clamp(min=-1e4)
    bound = (weight * part.loss(logits, x0, x_t, clock, None)).sum()
    torch.testing.assert_close(best, bound, rtol=1e-9, atol=1e-12)
    # Perturbations that depend on x_t alone, as a network's error does.
    generator = torch.Generator().manual_seed(0)
    for scale in (0.3, -0.3):
        noise_of = scale * torch.randn((*exact.states.shape, exact.classes), generator=generator, dtype=torch.float64)  # noqa: E501  # fmt: skip
        assert loss(truth + noise_of[pairs[:, 1]]) > best + 1e-4
    shift = torch.zeros(*exact.states.shape, exact.classes, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(truth + shift[pairs[:, 1]]), shift)
    assert slope.abs().max() < 1e-9
    assert rejected_slope(loss, truth, shift, pairs)


def rejected_slope(loss, truth, shift, pairs) -> bool:
    """Scores 5 % off have a slope that shows."""
    (slope,) = torch.autograd.grad(loss(truth + np.log(1.05) + shift[pairs[:, 1]]), shift)
    return bool(slope.abs().max() > 1e-4)


def test_score_entropy_of_a_perfect_match_is_zero():
    part = task().sampler().process["tokens"]
    x0, x_t, t = torch.tensor([[0, 1]]), torch.tensor([[4, 1]]), torch.tensor([0.5])
    one = torch.nn.functional.one_hot(x0, 5).double()
    ratio = log_ratios(part, one, x_t, t).clamp(min=-80)
    assert float(score_entropy(part, ratio, x0, x_t, t, None)) == pytest.approx(0, abs=1e-12)


# -- samples --------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["ancestral", "first_hitting", "remdm", "confident"])
def test_samples_do_not_depend_on_their_batch(solver):
    t = task()
    denoiser = t.build().eval()
    with torch.no_grad():  # a head that has an opinion
        for p in denoiser.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    ids = torch.tensor([3, 8, 11, 12, 40])
    sizes = t.sizes(ids, 7)
    sampler = t.sampler(solver=solver, eta=0.1)
    whole = t.decode(sampler(denoiser, t.template(ids, sizes, pad=9), seed=7))[0]
    for k in range(5):
        one = t.template(ids[k : k + 1], sizes[k : k + 1], pad=int(sizes[k]))
        assert t.decode(sampler(denoiser, one, seed=7))[0] == [whole[k]]
    assert [len(x) for x in whole] == sizes.tolist()


def test_lengths_follow_the_training_set():
    t = task()
    ids = torch.arange(6000)
    counts = torch.bincount(t.sizes(ids, 0), minlength=10)
    assert accepted(chi2_pvalue(counts, torch.tensor(t.config.data.lengths).double()))
    long = torch.bincount(t.sizes(ids, 0, motif="ACGTAC"), minlength=10)
    held = torch.tensor([0, 0, 0, 0, 0, 0, 3, 0, 1, 2]).double()
    assert accepted(chi2_pvalue(long, held))
    assert t.sizes(ids[:3], 0, length=4).tolist() == [4, 4, 4]
    assert t.sizes(ids[:2], 0, length=[4, 9]).tolist() == [4, 9]
    assert t.sizes(ids[:2], 0, fixed=["A.", "..C"]).tolist() == [2, 3]


def test_every_sample_has_the_motif():
    t = task()
    denoiser = t.build()
    ids = torch.arange(400)
    sizes = t.sizes(ids, 5, motif="GAT", length=9)
    cond = t.settled(ids, sizes, 5, motif="GAT", length=9)
    texts, _ = t.decode(t.sampler()(denoiser, t.template(ids, sizes, pad=9, **cond), seed=5))
    assert all(x[a : a + 3] == "GAT" for x, a in zip(texts, cond["at"], strict=True))
    places = torch.bincount(torch.tensor(cond["at"]), minlength=7)
    assert accepted(chi2_pvalue(places, torch.ones(7)))
    assert cond["at"] != t.settled(ids, sizes, 6, motif="GAT", length=9)["at"]
    assert cond["at"][7] == t.settled(ids[7:8], sizes[7:8], 5, motif="GAT", length=9)["at"][0]
    there = t.template(ids, sizes, pad=9, motif="G.T", at=2, fixed="A........", length=9)
    texts, _ = t.decode(t.sampler()(denoiser, there, seed=5))
    assert all(x[0] == "A" and x[2] == "G" and x[4] == "T" for x in texts)
    assert len({x[3] for x in texts}) == 4


@pytest.mark.parametrize(("cond", "match"), [
    ({"length": 10}, "from 1 to 9"), ({"length": 0}, "from 1"), ({"length": 2.5}, "whole number"),
    ({"fixed": "AXG"}, "'AXG'.*ACGT"), ({"fixed": ""}, "pattern such as"),
    ({"fixed": "A..", "length": 4}, "disagree"), ({"fixed": "..........A"}, "1 to 9"),
    ({"motif": "ACG", "length": 2}, "motif ends at 3"), ({"motif": "ACGTACGTAC"}, "no training"),
    ({"motif": "AC", "at": 8}, "no training|does not fit"), ({"motif": "A!"}, "motif"),
])  # fmt: skip
def test_wrong_lengths_and_patterns_are_named(cond, match):
    with pytest.raises(ArgumentError, match=match):
        task().sizes(torch.arange(3), 0, **cond)


@pytest.mark.parametrize(("cond", "error", "match"), [
    ({"size": 3}, ConfigError, "length.*found size"), ({"at": 2}, ArgumentError, "give motif"),
    ({"motif": "AC", "at": 5}, ArgumentError, "at most 3"),
    ({"motif": "AC", "at": 0, "fixed": "G...."}, ArgumentError, "contradicts"),
    ({"fixed": "A."}, ArgumentError, "2 letters, but the sample has 5"),
    ({"label": 1}, ConfigError, "without labels"), ({"guidance": 2}, ConfigError, "without labels"),
])  # fmt: skip
def test_wrong_conditions_are_named(cond, error, match):
    ids = torch.arange(2)
    with pytest.raises(error, match=match):
        task().template(ids, torch.tensor([5, 5]), pad=5, **cond)


def test_unfinished_samples_are_refused():
    t = task()
    state = State({"tokens": torch.tensor([[0, 1], [2, 4]])}, {}, torch.tensor([6, 7]))
    with pytest.raises(ArgumentError, match="sample 7 still has masked"):
        t.decode(state)
    weights = torch.nn.functional.one_hot(torch.tensor([[0, 1], [2, 3]]), 5).float()
    assert t.decode(State({"tokens": weights}, {}, torch.tensor([6, 7])))[0] == ["AC", "GT"]


# -- configuration, data, training ----------------------------------------------------------------


@pytest.mark.parametrize(("changes", "match"), [
    ({"sample": {"solver": "remdm"}, "noise": {"kind": "uniform"}}, "noise.kind.*remdm"),
    ({"sample": {"temperature": -1}}, "sample.temperature"), ({"sample": {"steps": 0}}, "steps"),
    ({"data": {"name": "x", "bins": 3}}, "data.label"),
    ({"data": {"name": "x", "label": "y"}}, "data.bins"),
    ({"data": {"name": "x", "label": "y", "thresholds": [2.0, 1.0]}}, "ascending"),
    ({"data": {"name": "x", "longer": "skip"}}, "data.longer"),
    ({"model": {"kind": "dilated", "kernel": 4}}, "model.kernel"),
    ({"model": {"kind": "transformer", "width": 20, "heads": 4}}, "model.width"),
    ({"loss": {"kind": "score_entropy"}, "noise": {"kind": "uniform"},
      "model": {"kind": "dilated", "time": False}}, "model.time"),
    ({"noise": {"kind": "mask"}}, "noise.kind"), ({"noise": {"knd": "uniform"}}, "did you mean"),
])  # fmt: skip
def test_wrong_configs_are_named(changes, match):
    given = {"kind": "mdlm", "data": {"name": "x"}, **changes}
    with pytest.raises(ConfigError, match=match):
        MdlmTask.from_config(given)


def test_wrong_overrides_are_named():
    with pytest.raises(ConfigError, match=r"sample\.temprature: .*did you mean 'temperature'"):
        task().sampler(temprature=0.5)
    with pytest.raises(ConfigError, match="solver 'confident'"):
        task(noise={"kind": "uniform"}).sampler(solver="confident")


def test_the_card_carries_what_the_data_say():
    t, data = prepared(noise={"kind": "marginal"})
    assert t.config.data.alphabet == "dna"
    assert sum(t.config.data.lengths) == len(data)
    assert t.config.data.length == data.sequences.max_length
    assert t.config.data.mean_length == pytest.approx(data.sequences.lengths.mean())
    assert MdlmTask.from_config(json.loads(json.dumps(t.to_config()))) == t
    part = t.sampler().process["tokens"]
    counts = np.bincount(data.sequences.tokens, minlength=4)
    assert part.stationary == pytest.approx(tuple(counts / counts.sum()))


def test_wrong_data_are_named():
    base = config()["data"]
    make = MdlmTask.from_config
    short = make({"kind": "mdlm", "data": {"name": "x", "length": 6}}).config.data
    with pytest.raises(DataError, match="longer than data"):
        TrainingSequences(toy(), short)
    skip = make({"kind": "mdlm", "data": {"name": "x", "length": 6, "longer": "skip"}}).config.data
    kept = TrainingSequences(toy(), skip)
    assert kept.sequences.max_length <= 6
    assert kept.fingerprint()["left_out"] == len(toy()) - len(kept)
    nucleic = make({"kind": "mdlm", "data": {"name": "x", "alphabet": "dna"}}).config.data
    proteins = Sequences.from_strings(["ACD"], PROTEIN)
    with pytest.raises(DataError, match="holds protein"):
        TrainingSequences(proteins, nucleic)
    nothing, known = Sequences.empty(DNA), make({"kind": "mdlm", "data": base}).config.data
    with pytest.raises(DataError, match="no sequences"):
        TrainingSequences(nothing, known)


def fit(t: MdlmTask, data: TrainingSequences, steps: int) -> tuple[torch.nn.Module, list[float]]:
    denoiser = t.build()
    optimiser = torch.optim.Adam(t.groups(denoiser)["net"], 1e-2)
    history = []
    for k in range(steps):
        batch = data.batch(torch.arange(len(data)))
        loss = t.losses(denoiser, batch, Key(0, batch.ids, step=k + 1))["tokens"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(float(loss.detach()))
    return denoiser.eval(), history


@pytest.mark.parametrize(("noise", "kind"), [
    ("absorbing", "elbo"), ("absorbing", "ce"), ("absorbing", "score_entropy"),
    ("uniform", "elbo"), ("uniform", "score_entropy"), ("marginal", "elbo"),
])  # fmt: skip
def test_training_learns(noise, kind):
    """The next letter is known in 95 of 100: far below the log 4 of guessing."""
    model = {"kind": "dilated", "width": 24, "stacks": 1, "kernel": 5, "dilations": [1, 1]}
    t, data = prepared(toy(100), model=model, noise={"kind": noise}, loss={"kind": kind})
    denoiser, history = fit(t, data, 100)
    assert sum(history[-10:]) < 0.75 * sum(history[:10])
    test = toy(60, seed=1)
    found = nelbo(denoiser, test, Key(0, torch.arange(60)), draws=32)
    guess = float(test.lengths.mean()) * np.log(4)
    assert float(found.mean()) < 0.75 * guess


@pytest.mark.parametrize("model", ["dilated", "transformer"])
@pytest.mark.parametrize("kind", ["elbo", "ce", "score_entropy"])
def test_the_loss_of_an_example_is_its_own(kind, model):
    shape = {"kind": model} if model == "transformer" else {}
    t, data = prepared(loss={"kind": kind}, **({"model": {**shape, "width": 8, "heads": 2}} if shape else {}))  # noqa: E501  # fmt: skip
    denoiser, index = t.build().eval(), torch.tensor([4, 17, 3, 90, 8])
    batch = data.batch(index)
    whole = t.losses(denoiser, batch, Key(1, batch.ids, step=9))["tokens"]
    assert whole.shape == (5,)
    for k in range(5):
        one = data.batch(index[k : k + 1])
        alone = t.losses(denoiser, one, Key(1, one.ids, step=9))["tokens"]
        torch.testing.assert_close(whole[k : k + 1], alone, rtol=1e-4, atol=1e-6)


def test_labels_are_learnt_and_followed():
    """Two classes of sequences, told by a threshold of a measurement; a third is not measured."""
    kinds = ["AAAAA", "TTTTT", "CCCCC"] * 60
    values = np.array([0.0, 1.0, np.nan] * 60)
    given = config(model={"kind": "dilated", "width": 16, "stacks": 1, "dilations": [1]})
    given["data"] = {"name": "x", "label": "activity", "thresholds": [0.5]}
    made = MdlmTask.from_config(given)
    data = TrainingSequences(Sequences.from_strings(kinds, DNA), made.config.data, label=values)
    batch = data.batch(torch.tensor([0, 1, 2]))
    assert batch["label"].tolist()[:2] == [0, 1]
    assert batch["told"].tolist() == [True, True, False]
    t = made.prepared(data)
    denoiser, _ = fit(t, data, 150)
    ids = torch.arange(60)
    sizes = t.sizes(ids, 0)
    for label, letter in ((0, "A"), (1, "T")):
        template = t.template(ids, sizes, pad=5, label=label)
        texts, _ = t.decode(t.sampler(solver="first_hitting", steps=5)(denoiser, template, seed=0))
        share = np.mean([x == 5 * letter for x in texts])
        assert share > 0.8
        told = t.template(ids, sizes, pad=5, label=label, guidance=3)
        texts, _ = t.decode(t.sampler(solver="first_hitting", steps=5)(denoiser, told, seed=0))
        assert np.mean([x == 5 * letter for x in texts]) >= share
    with pytest.raises(ArgumentError, match="from 0 to 1"):
        t.template(ids, sizes, pad=5, label=2)
    with pytest.raises(ArgumentError, match="give label"):
        t.template(ids, sizes, pad=5, guidance=2)
    equal = MdlmTask.from_config({"kind": "mdlm", "data": {"name": "x", "label": "y", "bins": 2}})
    cut = TrainingSequences(toy(50), equal.config.data, label=np.arange(50.0))
    assert cut.facts.thresholds == (24.5,)
    assert torch.bincount(cut.batch(torch.arange(50))["label"]).tolist() == [25, 25]


def test_a_class_weight_state_has_a_gradient_through_the_denoiser():
    """What direct fine-tuning differentiates, with letters that are given."""
    t = task()
    denoiser = t.build()
    template = t.template(torch.arange(2), torch.tensor([5, 5]), pad=5, fixed="A....")
    weights = torch.full((2, 5, 5), 0.2, requires_grad=True)
    cond = {GIVEN: template[GIVEN]}
    out = denoiser.net({"tokens": weights}, torch.zeros(2), template.masks, cond)["tokens"]
    (slope,) = torch.autograd.grad(out[:, 1:].square().sum(), weights)
    assert slope[:, 1:].abs().sum() > 0
    assert not slope[:, 0].any()


def test_memory_grows_with_the_batch():
    t = task()
    small, large = (t.memory(b, training=True) for b in (1, 101))
    assert small is not None
    assert large > small > 0
    assert t.memory(101, training=False) < large


# -- results --------------------------------------------------------------------------------------


def test_results(tmp_path):
    t = task()
    raw = Sequences.from_strings(["ACGT", "GG", "TTTTA"], DNA)
    samples = Samples([4, 5, 9], raw.strings(), raw, {})
    npz, fasta = t.write(samples, tmp_path)
    assert Sequences.load(npz) == raw
    assert fasta.read_text() == ">sample-4\nACGT\n>sample-5\nGG\n>sample-9\nTTTTA\n"
    assert t.convert(samples, "str") == raw.strings()
    assert [s.strings()[0] for s in t.convert(samples, "sequences")] == raw.strings()
    states = t.convert(samples, "state")
    assert [t.decode(s)[0][0] for s in states] == raw.strings()
    assert [int(s.ids[0]) for s in states] == [4, 5, 9]
    with pytest.raises(ArgumentError, match="seqrecord"):
        t.convert(samples, "fasta")
    assert t.join([raw[:2], raw[2]], [2, 0, 1]).strings() == ["TTTTA", "ACGT", "GG"]
    scores = t.scores()
    assert scores["gc"]("ACGT") == 0.5
    assert scores["count:TT"]("TTTTA") == 3
    assert t.item_key("ACGT") == "ACGT"
    assert as_state(raw)["tokens"].shape == (3, 5)


def test_seqrecords():
    pytest.importorskip("Bio", reason="needs Biopython")
    t = task()
    raw = Sequences.from_strings(["ACGT"], DNA)
    (record,) = t.convert(Samples([4], raw.strings(), raw, {}), "seqrecord")
    assert (str(record.seq), record.id) == ("ACGT", "sample-4")


def test_information_content():
    """A column of one letter has 2 bits less the correction; an even one has none."""
    rows = ["A" + letter for letter in "ACGT" * 5] + ["A"]
    heights = information(Sequences.from_strings(rows, DNA))
    assert heights.shape == (2, 4)
    assert heights[0].tolist() == pytest.approx([2 - 3 / (2 * np.log(2) * 21), 0, 0, 0])
    assert heights[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("texts", "alphabet"), [
    (["ACGT" * 50, "A", "GGG"], DNA), (["MKWVTFISLL"] * 3, PROTEIN), (["A"], DNA),
])  # fmt: skip
def test_pictures(texts, alphabet):
    png = sequences_png(Sequences.from_strings(texts, alphabet), count=2)
    assert png.startswith(b"\x89PNG")
    with pytest.raises(ArgumentError, match="no sequences"):
        sequences_png(Sequences.empty(alphabet))


# -- the command line -----------------------------------------------------------------------------


@pytest.fixture
def call(monkeypatch, capfd):
    """The ``graphdiff`` command in this process."""
    from graphdiff.cli.app import main

    def run(*arguments: object, rc: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["graphdiff", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capfd.readouterr()
        assert left.value.code == rc, out + err
        return out + err

    return run


def test_train_and_sample_from_the_command_line(call, tmp_path: Path):
    fasta = tmp_path / "own.fasta"
    lines = [f">s{k}\n{text}\n" for k, text in enumerate(toy(60).strings())]
    fasta.write_text("".join([*lines, ">unclear\nACGN\n"]))
    model, out = tmp_path / "model", tmp_path / "out"
    small = ["width=8", "stacks=1", "kernel=3", "dilations=[1]"]
    sets = [f"data.name={fasta}", "train.steps=6", "train.batch_size=16", "sample.steps=6"]
    sets += [f"model.{s}" for s in small]
    arguments = [x for s in sets for x in ("--set", s)]
    call("train", "mdlm-dna", "--out", model, *arguments)
    again = ["--cond", "fixed=AC..G_", "--seed", 3, "--picture", "p.png"]
    call("sample", model, "-n", 7, "--out", out, *again, "--set", "temperature=0.5")
    texts = Sequences.load(out / "samples.npz").strings()
    assert len(texts) == 7
    assert all(x.startswith("AC") and x[4] == "G" and len(x) == 6 for x in texts)
    assert (out / "samples.fasta").read_text().split("\n")[1] == texts[0]
    assert (out / "p.png").read_bytes().startswith(b"\x89PNG")
    said = call("sample", model, "-n", 2, "--out", tmp_path / "no", "--cond", "fixed=AXA", rc=2)
    assert "AXA" in said
    call("sample", model, "-n", 3, "--out", tmp_path / "m", "--cond", "motif=GAT", "--solver",
         "first_hitting", "--steps", 9)  # fmt: skip
    assert all("GAT" in x for x in Sequences.load(tmp_path / "m" / "samples.npz").strings())
    call("sample", model, "-n", 2, "--out", tmp_path / "g", "--guide", "smc", "--reward", "gc",
         "--cond", "fixed=A....T", "--guide-set", "particles=4")  # fmt: skip
    texts = Sequences.load(tmp_path / "g" / "samples.npz").strings()
    assert all(x[0] == "A" and x[5] == "T" for x in texts)


@pytest.mark.parametrize("name", ["mdlm-yeast-promoter", "mdlm-yeast-promoter-published", "mdlm-dna", "mdlm-protein"])  # noqa: E501  # fmt: skip
def test_configs_are_valid(name):
    from graphdiff.config import resolve_config, split_config
    from graphdiff.train import TrainConfig

    given, train = split_config(resolve_config(name))
    made = MdlmTask.from_config(given)
    TrainConfig.from_config(train)
    assert made.config.noise.kind == "absorbing"
