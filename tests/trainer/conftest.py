import os

# Before torch is imported: a tiny model gains nothing from threads, and loses a lot beside other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.tiny import tiny_model
from tests.trainer.workspace import workspace

__all__ = ["tiny_model", "workspace"]
