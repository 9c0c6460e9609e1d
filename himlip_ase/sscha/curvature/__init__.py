"""Curvature of the free energy: third and fourth order, free-energy Hessian, spectral function."""
