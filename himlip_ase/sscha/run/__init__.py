"""One SSCHA run: settings, ensembles, populations, checkpoints, and runs that begin from a finished one."""
