"""What all parts agree on: the TrainingJob's schema, its defaults, its status, and what a trainer is told and tells."""
