"""What all parts share: the schema of a TrainingJob, its defaults, its status, and the trainer's config and events."""
