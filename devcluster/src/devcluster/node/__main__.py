"""`python -m devcluster.node FOLDER --gpus N`: the process `devcluster up` starts as the cluster's node."""

from devcluster import background
from devcluster.node.agent import run_node

if __name__ == "__main__":
    background.run("devcluster.node", run_node)
