"""The operator: keeps each TrainingJob's Job as it should be, and its status as things are.

Read in this order: ``reconcile`` (the loop), ``desired`` (spec -> Job), ``observed`` (Job, Pods, Events -> facts),
``status`` (facts -> status).
"""
