"""One file per workload; ``catalogue.py`` names them all."""
