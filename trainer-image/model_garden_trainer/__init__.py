"""The trainer: what runs inside a TrainingJob's pod, on a laptop and under torchrun."""
