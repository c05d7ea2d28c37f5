from tests.tiny import tiny_model

__all__ = ["tiny_model"]
