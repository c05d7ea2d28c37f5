"""PURE: what the pages show of a TrainingJob, from the plain resource."""
