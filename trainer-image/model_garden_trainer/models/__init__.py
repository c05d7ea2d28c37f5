"""The base model: finding it, loading it by one of two backends, adapting it."""
