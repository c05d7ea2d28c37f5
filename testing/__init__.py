"""What tests, the demo and benchmarks share: tiny models of real architectures, and configs of real ones."""
