"""The memory a job needs, from its effective spec and the model's config alone: pure arithmetic, nothing is loaded."""
