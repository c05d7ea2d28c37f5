"""The trackers of ``reportTo``: MLflow, W&B, TensorBoard and Trackio.

Each tracker has a process of its own, which follows ``metrics.jsonl`` and sends its lines: no server and no library can
delay or end the training. What was not sent is sent later, by the same process, by the next attempt, or by the same job
when it is started again.
"""
