"""Training by gradients: batches, losses, curriculum, optimisers, checkpoints, fine-tuning, pre-training."""
