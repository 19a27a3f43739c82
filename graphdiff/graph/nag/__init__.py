"""DiffusionNAG: neural architectures as directed graphs, designed under a predictor's guidance."""
