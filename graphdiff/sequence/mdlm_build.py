"""Parts of :class:`graphdiff.sequence.mdlm.MdlmTask`: process, network, solver, groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from torch import Tensor
from torch.nn import Module

from graphdiff.core.categorical import Absorbing, Marginal, Uniform
from graphdiff.core.denoiser import Bayes, Denoiser, Logits, Parametrization, Subs
from graphdiff.core.errors import ConfigError
from graphdiff.core.flow import FlowJump
from graphdiff.core.guidance import ClassifierFree
from graphdiff.core.jump import AncestralJump, EulerJump, TauLeaping
from graphdiff.core.process import Process, Product
from graphdiff.core.program import Solver
from graphdiff.core.remask import FirstHitting, ReMDM
from graphdiff.core.reveal import ConfidentJump
from graphdiff.core.schedule import FlowMatching, LogLinear, Schedule, SquaredCosine
from graphdiff.core.state import State, bucket_by_size
from graphdiff.sequence.alphabet import Alphabet, find_alphabet
from graphdiff.sequence.infill import Infilling
from graphdiff.sequence.mdlm_config import MdlmConfig, SequenceSampling
from graphdiff.sequence.score_entropy import LogScore
from graphdiff.sequence.tempered import Tempered

__all__ = [
    "alphabet_of",
    "build_denoiser",
    "build_network",
    "build_process",
    "grouped",
    "solver_of",
]


def build_process(config: MdlmConfig) -> Product:
    """The chain of ``tokens``; with absorbing noise the last class is the mask.

    Raises:
        ConfigError: The alphabet or the letter frequencies are unknown.
    """
    noise, letters = config.noise, len(alphabet_of(config))
    schedules: dict[str, Schedule] = {
        "loglinear": LogLinear(), "linear": FlowMatching(), "cosine": SquaredCosine()
    }  # fmt: skip
    schedule = schedules[noise.schedule]
    weighting = "ce" if config.loss.kind == "ce" else "elbo"
    part: Process
    if noise.kind == "absorbing":
        part = Absorbing(schedule, letters + 1, weighting=weighting)  # type: ignore[arg-type]
    elif noise.kind == "uniform":
        part = Uniform(schedule, letters, weighting=weighting)  # type: ignore[arg-type]
    elif len(config.data.letter_probs) == letters:
        part = Marginal(schedule, config.data.letter_probs, weighting=weighting)  # type: ignore[arg-type]
    else:
        raise ConfigError(
            f"data.letter_probs has {len(config.data.letter_probs)} numbers for {letters} letters, "
            "so marginal noise is undefined; train the model first, which fills it in, or choose "
            "noise.kind = 'uniform'"
        )
    return Product({"tokens": part})


def alphabet_of(config: MdlmConfig) -> Alphabet:
    """The alphabet of the config.

    Raises:
        ConfigError: It is not known yet.
    """
    if not config.data.alphabet:
        raise ConfigError(
            "data.alphabet is empty; train the model first, which fills it in, or name it: dna, "
            "rna or protein"
        )
    return find_alphabet(config.data.alphabet)


def build_network(config: MdlmConfig) -> Module:
    """The network of the config, initialised from torch's global generator."""
    from graphdiff.sequence.nets.dilated import DilatedCNN
    from graphdiff.sequence.nets.transformer import SequenceTransformer

    classes = len(alphabet_of(config)) + (config.noise.kind == "absorbing")
    shape = {k: v for k, v in asdict(config.model).items() if k != "kind"}
    maker = DilatedCNN if config.model.kind == "dilated" else SequenceTransformer
    net: Module = maker(classes, labels=config.data.labels, **shape)
    return Infilling(ClassifierFree(net) if config.data.labels else net)


def solver_of(sample: SequenceSampling) -> Solver:
    """The solver that a sampling configuration names."""
    makers: dict[str, Callable[[], Solver]] = {
        "ancestral": AncestralJump,
        "flow": lambda: FlowJump(sample.eta),
        "euler": EulerJump,
        "tau": TauLeaping,
        "first_hitting": FirstHitting,
        "confident": lambda: ConfidentJump(sample.jitter),
        "remdm": lambda: ReMDM(eta=sample.eta),
    }
    solver = makers[sample.solver]()
    return solver if sample.temperature == 1 else Tempered(solver, sample.temperature)


def build_denoiser(config: MdlmConfig) -> Denoiser:
    """A fresh network with the process of the config and the meaning of its output."""
    part: Parametrization = Subs()
    if config.loss.kind == "score_entropy":
        part = LogScore()
    elif config.noise.kind != "absorbing":
        part = Bayes() if config.loss.output == "bayes" else Logits()
    return Denoiser(build_network(config), build_process(config), {"tokens": part})


def grouped(clean: State) -> list[tuple[Tensor, State]]:
    """A padded batch as groups of like length, each trimmed to its longest sequence."""
    mask = clean.masks["tokens"]
    sizes = mask.sum(1)
    groups = []
    for bucket in bucket_by_size(sizes.cpu(), batch=len(sizes)):
        index = bucket.index.to(mask.device)
        part = clean.select(index)
        values = {**part.values, "tokens": part["tokens"][:, : bucket.size]}
        trimmed = {"tokens": part.masks["tokens"][:, : bucket.size]}
        groups.append((index, State(values, trimmed, part.ids)))
    return groups
