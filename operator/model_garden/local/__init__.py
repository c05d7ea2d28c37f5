"""TrainingJobs on this machine, without a cluster: kept in a SQLite file, run one at a time as processes.

``transport`` answers the requests that ``cluster.Cluster`` sends to an API server, so every front door works on both.
``runner`` judges jobs and writes their status with the same pure functions as the operator.
"""
