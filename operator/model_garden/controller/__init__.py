"""The operator: creates a Job for each TrainingJob, and writes what happens to it into the status.

Read in this order: ``handlers`` (kopf), ``operator`` (the tasks), ``reconcile`` (the loop), ``observed`` (Job, Pods and
Events -> facts), ``verdict`` (facts -> phase and reason), ``status`` (verdict -> status).
"""
