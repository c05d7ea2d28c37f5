"""The reference pages that are made from code, one module a page; ``tools.generate`` writes them to docs/reference."""
