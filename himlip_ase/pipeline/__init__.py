"""The stages from labels to Tc: configuration, run folder, stages, report."""
