"""Ensembles and results in the files of other codes."""
