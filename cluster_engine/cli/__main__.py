"""``python -m cluster_engine.cli``."""

from cluster_engine.cli import main

main()
