"""Several finished runs side by side: compounds, measured values, tables, figures, one report."""
