"""A Kubernetes on your own machine, for demo and tests: real control plane, pods run as processes.

`devcluster up` reads from top to bottom as: binaries -> certificates -> control plane -> process node. See cli.py.
"""
