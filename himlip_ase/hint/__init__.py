"""Hessian-informed training: training, closed-form last layers, evaluation."""
