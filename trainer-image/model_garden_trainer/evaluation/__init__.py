"""Answers to held-out rows, and their scores: ``metrics`` are pure functions without torch."""
