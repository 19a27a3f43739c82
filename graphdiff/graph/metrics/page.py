"""An evaluation as one HTML page that needs nothing else.

Samples, histograms against test and training set, every metric with its circumstances, warnings and
provenance. Pictures are embedded; the page forbids itself to load anything (its content security
policy), runs no script, follows the light or dark setting of the reader, prints, and says in words
what its pictures show. The same arguments give the same bytes.
"""

from __future__ import annotations

import base64
import html
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphdiff.data.packed import write_bytes
from graphdiff.graph.metrics.histograms import SETS, Panel, graph_panels, molecule_panels
from graphdiff.graph.metrics.report import Metric, Report, number

if TYPE_CHECKING:
    from graphdiff.data.dataset import Dataset
    from graphdiff.data.graphs import Graphs

__all__ = ["render_page", "write_page"]

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5a6577;--line:#d8dee8;--paper:#fff;
--card:#f6f8fb;--ours:#7aa6d8;--test:#b3460f;--train:#2c7a4b;--warn:#fff3cf;--edge:#d9a400}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#a3adbd;--line:#38424f;
--paper:#14181e;--card:#1c222a;--ours:#3f6ea5;--test:#ff9d6c;--train:#7fd6a2;--warn:#3a3215;--edge:#c79b1c}}
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:82em;padding:0 1em;
color:var(--ink);background:var(--paper)}
h1{font-size:1.5em;line-height:1.25}h2{font-size:1.2em;margin-top:2em}
p,li,figcaption{max-width:60em}.soft,figcaption,caption{color:var(--soft)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.5em}
td,th{padding:.25em .7em;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap;
vertical-align:top}td.n{text-align:right}td.long{white-space:normal;min-width:14em}
thead th{border-bottom:2px solid var(--soft)}
.warn{background:var(--warn);border-left:4px solid var(--edge);padding:.4em 1em;margin:.5em 0}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(19em,1fr));gap:1em}
figure{margin:0;background:var(--card);padding:.8em;border-radius:6px;break-inside:avoid}
figure h3{font-size:1em;margin:0 0 .3em}figcaption{font-size:.87em}
img{max-width:100%;background:#fff;border-radius:4px}svg{width:100%;height:auto;display:block}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}.axis{stroke:var(--soft)}
.rule{stroke:var(--line)}rect.generated{fill:var(--ours)}
path{fill:none;stroke-width:1.6}path.test{stroke:var(--test)}
path.train{stroke:var(--train);stroke-dasharray:4 3}.key{display:flex;gap:1.5em;flex-wrap:wrap}
.key svg{width:2.2em;height:1em;display:inline-block;vertical-align:-.1em;margin-right:.4em}
svg.span{width:9em}.floor{fill:var(--test);opacity:.35}.mean{stroke:var(--test);stroke-width:2}
.reach{stroke:var(--ours);stroke-width:3}.dot{fill:var(--ink)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15em 1.2em}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}pre{background:var(--card);padding:1em;overflow-x:auto}
@media print{body{margin:0;max-width:none;font-size:10px}.wide{overflow:visible}
td,th{white-space:normal;padding:.15em .35em}details{display:none}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

_HEAD = (
    "Metric", "Better", "Value", "95 % interval", "Floor", "Floor interval", "Value and floor",
    "Resolves", "n", "n reference", "Population", "Estimator", "Kernel", "Split", "Note",
)  # fmt: skip
_NUMBERS = {"Value", "95 % interval", "Floor", "Floor interval", "Resolves", "n", "n reference"}


def write_page(
    path: str | Path,
    raw: Graphs | Sequence[str],
    dataset: Dataset,
    result: Report,
    facts: Mapping[str, Any] | None = None,
    *,
    count: int = 25,
) -> Path:
    """Writes :func:`render_page` to a file; folders are made."""
    page = render_page(raw, dataset, result, facts, count=count)
    return write_bytes(Path(path), page.encode("utf-8"))


def render_page(
    raw: Graphs | Sequence[str],
    dataset: Dataset,
    result: Report,
    facts: Mapping[str, Any] | None = None,
    *,
    count: int = 25,
) -> str:
    """An evaluation as HTML.

    Args:
        raw: The samples that were scored, graphs or SMILES; the first ``count`` are drawn.
        dataset: The data set they were scored against.
        result: The scores.
        facts: What else is known of the samples, as in ``metrics.json``.
        count: Number of samples in the picture.
    """
    from graphdiff.data.graphs import Graphs

    molecules = dataset.atoms is not None or not isinstance(raw, Graphs)
    panels = molecule_panels(raw, dataset) if molecules else graph_panels(raw, dataset)  # type: ignore[arg-type]
    known = {k: v for k, v in (facts or {}).items() if k not in ("metrics", "warnings")}
    known["evaluation"] = dict(result.info)
    title = _text(result.title)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return "".join([
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><main><h1>{title}</h1>",
        _origin(known), _warnings(result), _table(result), _samples(raw, dataset, count),
        _histograms(panels), _provenance(known), "</main></body></html>\n",
    ])  # fmt: skip


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _origin(known: Mapping[str, Any]) -> str:
    """One line under the title: which model made the samples, and how."""
    held = known.get("samples") or {}
    request, info = held.get("request") or {}, held.get("info") or {}
    parts = [f"model {request['model']}"] if request.get("model") else []
    parts += [f"seed {request['seed']}"] if request.get("seed") is not None else []
    calls = info.get("network_calls_per_sample")
    parts += [f"{calls} network calls a sample"] if calls else []
    return f'<p class="soft">{_text(", ".join(parts))}</p>' if parts else ""


def _warnings(result: Report) -> str:
    if not result.warnings:
        return ""
    items = "".join(f'<p class="warn">{_text(w)}</p>' for w in result.warnings)
    return f'<section aria-label="Warnings"><h2>Before you read on</h2>{items}</section>'


def _table(result: Report) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in _HEAD)
    body = "\n".join(_row(metric) for metric in result)
    return (
        '<section><h2>Metrics</h2><div class="wide" tabindex="0" role="region" '
        'aria-label="Table of metrics"><table><caption>The floor is what training examples score '
        "in place of generated ones at the same sample size; a score within its interval cannot be "
        "told from the data. Two samples of one model differ by more than the value of "
        "<em>Resolves</em> in 5 % of cases. In the drawing: value (dot) with its interval, floor "
        "(line) with its interval (band).</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div></section>\n"
    )


def _row(metric: Metric) -> str:
    better = {"lower": "lower", "higher": "higher", "none": "neither"}[metric.direction]
    cells = (
        better, number(metric.value), _span(metric.interval), number(metric.floor),
        _span(metric.floor_interval), _drawing(metric), number(metric.resolution), metric.n or "",
        metric.n_reference or "", metric.population, metric.estimator, metric.kernel,
        metric.split_hash, metric.note,
    )  # fmt: skip
    out = [f'<tr><th scope="row">{_text(metric.name)}</th>']
    for name, cell in zip(_HEAD[1:], cells, strict=True):
        if name == "Value and floor":
            out.append(f"<td>{cell}</td>")
            continue
        kind = "n" if name in _NUMBERS else "long" if name in ("Kernel", "Note") else ""
        out.append(f'<td class="{kind}">{_text(cell)}</td>' if kind else f"<td>{_text(cell)}</td>")
    return "".join(out) + "</tr>"


def _span(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{number(interval[0])} to {number(interval[1])}"


def _drawing(metric: Metric) -> str:
    """Value and floor with their intervals on one scale; hidden from readers of text."""
    ends = [metric.value, metric.floor, *(metric.interval or ()), *(metric.floor_interval or ())]
    finite = [float(x) for x in ends if x is not None and np.isfinite(x)]
    if not np.isfinite(metric.value):
        return ""
    low, high = min(0.0, *finite), max(finite)
    scale = 132 / (high - low) if high > low else 0.0

    def x(value: float) -> str:
        return f"{4 + (value - low) * scale:.1f}"

    parts = []
    if metric.floor_interval is not None:
        a, b = metric.floor_interval
        wide = max((b - a) * scale, 1)
        parts.append(f'<rect class="floor" x="{x(a)}" y="2" width="{wide:.1f}" height="14"/>')
    if metric.floor is not None and np.isfinite(metric.floor):
        at = x(metric.floor)
        parts.append(f'<line class="mean" x1="{at}" x2="{at}" y1="1" y2="17"/>')
    if metric.interval is not None:
        a, b = metric.interval
        parts.append(f'<line class="reach" x1="{x(a)}" x2="{x(b)}" y1="9" y2="9"/>')
    parts.append(f'<circle class="dot" cx="{x(metric.value)}" cy="9" r="3.2"/>')
    return f'<svg class="span" viewBox="0 0 140 18" aria-hidden="true">{"".join(parts)}</svg>'


def _samples(raw: Graphs | Sequence[str], dataset: Dataset, count: int) -> str:
    from graphdiff.data.graphs import Graphs

    shown = min(count, len(raw))
    picture = base64.b64encode(_picture(raw, dataset, shown)).decode()
    if isinstance(raw, Graphs):
        what = "molecules as generated, before any correction" if dataset.atoms else "graphs"
        sizes = ", ".join(str(int(n)) for n in raw.num_nodes[:shown])
        alt = f"the first {shown} generated {what}; numbers of nodes: {sizes}"
        names = ""
    else:
        alt = f"the first {shown} molecules of the sample file"
        items = "".join(f"<li><code>{_text(s[:300])}</code></li>" for s in raw[:shown])
        names = f"<details><summary>As SMILES</summary><ol>{items}</ol></details>"
    return (
        f'<section><h2>Samples</h2><figure><img alt="{_text(alt)}" '
        f'src="data:image/png;base64,{picture}"><figcaption>{_text(alt[0].upper() + alt[1:])}, '
        f"not selected.</figcaption></figure>{names}</section>\n"
    )


def _picture(raw: Graphs | Sequence[str], dataset: Dataset, count: int) -> bytes:
    from graphdiff.data.graphs import Graphs
    from graphdiff.graph.draw import graphs_png, molecules_png

    if not isinstance(raw, Graphs):
        from rdkit import Chem, rdBase

        with rdBase.BlockLogs():
            mols = [Chem.MolFromSmiles(s, sanitize=False) for s in raw[:count]]
        return molecules_png([Chem.Mol() if m is None else m for m in mols])
    part = raw[np.arange(count)]
    if dataset.atoms is not None:
        from graphdiff.graph.molecules import to_molecules

        return molecules_png(to_molecules(part, dataset.atoms))
    return graphs_png(part.to_networkx())


def _histograms(panels: Sequence[Panel]) -> str:
    marks = {
        "generated": '<rect class="generated" x="2" y="2" width="28" height="12"/>',
        "test": '<path class="test" d="M2,8H30"/>', "train": '<path class="train" d="M2,8H30"/>',
    }  # fmt: skip
    key = "".join(
        f'<span><svg viewBox="0 0 32 16" aria-hidden="true">{marks[name]}</svg>{name}</span>'
        for name in SETS
    )
    figures = "\n".join(
        f"<figure><h3>{_text(p.title)}</h3>{p.svg()}<figcaption>{_text(p.unit)}"
        f"{'' if p.categorical else '; ' + _text(p.summary())}</figcaption></figure>"
        for p in panels
    )
    return (
        f'<section><h2>Against test and training set</h2><p class="key">{key}</p>'
        f'<div class="grid">{figures}</div></section>\n'
    )


def _provenance(known: Mapping[str, Any]) -> str:
    held = known.get("samples") or {}
    request, info = held.get("request") or {}, held.get("info") or {}
    rows: dict[str, Any] = {
        "data set": known.get("dataset"), "samples scored": known.get("n"),
        "model": request.get("model"), "method": request.get("kind"),
        "weights": request.get("which"), "seed": request.get("seed"),
        "sampler": request.get("sampler") or None, "condition": request.get("cond") or None,
        "network calls a sample": info.get("network_calls_per_sample"),
        "seconds of sampling": info.get("seconds"), "device": info.get("device"),
        "sampled with": _versions(info, ("graphdiff", "torch")),
        "reference sha256": known["evaluation"].get("reference_sha256"),
        "scored with": _installed(),
    }  # fmt: skip
    items = "".join(
        f"<dt>{_text(k)}</dt><dd>{_text(_plain(v))}</dd>" for k, v in rows.items() if v is not None
    )
    about = json.dumps(known, indent=2, default=str)
    return (
        f"<section><h2>Provenance</h2><dl>{items}</dl><details><summary>Everything as JSON"
        f"</summary><pre>{_text(about)}</pre></details></section>\n"
    )


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value, default=str) if isinstance(value, (dict, list, tuple)) else str(value)


def _versions(held: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return ", ".join(f"{name} {held[name]}" for name in names if held.get(name)) or None


def _installed() -> str | None:
    """Versions of what computes the numbers of this page."""
    import graphdiff

    found = {"graphdiff": graphdiff.__version__, "Python": platform.python_version()}
    for name in ("numpy", "scipy", "scikit-learn", "rdkit", "networkx"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return _versions(found, list(found))
