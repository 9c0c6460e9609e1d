"""The loop in which the SSCHA learns from DFT until the two agree."""
