"""Symmetry operations, point groups, irreducible products; serves crystals and molecules, knows neither."""
