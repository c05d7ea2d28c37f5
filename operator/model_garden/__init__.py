"""Model Garden on Kubernetes: the TrainingJob contract, its operator and its command line."""

__version__ = "0.1.0"
