"""Networks on sequences and structures."""
