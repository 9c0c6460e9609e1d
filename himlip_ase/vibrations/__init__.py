"""Vibrations of molecules and large structures: point groups, Hessians, lowest modes, thermochemistry."""
