"""What the demo and the tests need and nobody's production does: tiny models, made on the spot."""
