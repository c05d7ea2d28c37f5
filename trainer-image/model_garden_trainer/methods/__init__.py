"""The training methods, a module each: which trainer of TRL it extends, its loss, its batches, and ``train``."""
