"""How far the potential is to be trusted: watch over its ensembles, verification by a reference."""
