"""Try every path of the trainer that needs a GPU, then time its steps: ``python -m tools.gpu_check --help``.

``plan`` says what is run, ``lanes`` starts a process for each lane and limits its time, ``worker`` is that process,
``checks`` judges what it found, ``report`` makes the tables.
"""
