"""Quantum ESPRESSO: inputs, runs that are not trusted, outputs read strictly."""
