"""The SSCHA free energy, its gradients, and the ways to its minimum on one ensemble."""
