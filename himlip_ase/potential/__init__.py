"""Positions → energy and its derivatives: neighbour graphs, the Hi-MLIP network, autodiff, checkpoints."""
