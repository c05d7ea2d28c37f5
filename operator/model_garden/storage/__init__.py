"""The data sets (``./data``) and models (``./models``) of a workspace: list, preview, check, upload, remove, download.

``interface`` is what every front door uses. ``folder`` works on a folder of this machine. ``python -m
model_garden.storage`` offers the same over a process's stdin and stdout, for use inside a pod. ``paths`` has the rules
for names.
"""
