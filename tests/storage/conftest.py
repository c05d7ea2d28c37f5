from tests.storage.uploads import sample, workspace

__all__ = ["sample", "workspace"]
