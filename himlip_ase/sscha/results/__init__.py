"""What an SSCHA run found: results, summaries, figures, comparisons of grids, sampling noise."""
