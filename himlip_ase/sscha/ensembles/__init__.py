"""Configurations drawn from a harmonic crystal, and their forces."""
