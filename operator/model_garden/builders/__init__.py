"""PURE: from a TrainingJob to the Kubernetes objects that run it, for the controller, ``render`` and previews."""
