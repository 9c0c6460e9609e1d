"""Hessian-informed training: labels, projections, losses, curriculum, fine-tuning, evaluation."""
