from tests.tiny import tiny_model
from tests.trainer.workspace import workspace

__all__ = ["tiny_model", "workspace"]
