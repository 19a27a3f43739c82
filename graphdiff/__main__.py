"""``python -m graphdiff``: the command line, also under ``torchrun``."""

from graphdiff.cli.app import main

if __name__ == "__main__":
    main()
