"""Estimates the memory of a job from its effective spec and the model's config.json, without loading the model."""
