"""DiffGraph: latent diffusion between relations of one set of nodes (arXiv 2501.02313).

Shared:

* :mod:`~graphdiff.graph.diffgraph.process`: schedules and starts, the published one among them;
* :mod:`~graphdiff.graph.diffgraph.settings`: what a latent diffusion is, as plain numbers;
* :mod:`~graphdiff.graph.diffgraph.denoiser`: the diffusion of an embedding given another view.

Recommendation:

* :mod:`~graphdiff.graph.diffgraph.ranking`: measures of full rankings, in blocks;
* :mod:`~graphdiff.graph.diffgraph.walks`: popularity, neighbours of items, random walks;
* :mod:`~graphdiff.graph.diffgraph.views`: what the walks through other users say;
* :mod:`~graphdiff.graph.diffgraph.latent`: training examples of the diffusion of users;
* :mod:`~graphdiff.graph.diffgraph.choice`: settings and their choice on held-out edges;
* :mod:`~graphdiff.graph.diffgraph.recommend`: the recommender;
* :mod:`~graphdiff.graph.diffgraph.published`: DiffGraph as published.

Classes of nodes:

* :mod:`~graphdiff.graph.diffgraph.metapath`: meta-paths that are never multiplied out, of
  :mod:`~graphdiff.graph.diffgraph.steps`;
* :mod:`~graphdiff.graph.diffgraph.nodes`: the classifier, and the modules ``node_...`` below it.
"""
