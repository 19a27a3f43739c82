"""Generation of large sparse graphs by repeated local expansion (see :mod:`.level`)."""
