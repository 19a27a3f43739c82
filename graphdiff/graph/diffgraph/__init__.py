"""DiffGraph: latent diffusion between relations of one set of nodes (arXiv 2501.02313).

* :mod:`~graphdiff.graph.diffgraph.process`: schedules and starts, the published one among them;
* :mod:`~graphdiff.graph.diffgraph.denoiser`: the diffusion of an embedding given another view.
"""
