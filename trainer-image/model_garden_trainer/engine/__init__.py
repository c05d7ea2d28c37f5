"""The training loop and everything that watches it: steps, checkpoints, health, stopping."""
