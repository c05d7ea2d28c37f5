"""`python -m devcluster.kubelet FOLDER --gpus N`: what `up --node=kubelet` starts beside the kubelet."""

from devcluster import background
from devcluster.kubelet.services import run_services

if __name__ == "__main__":
    background.run("devcluster.kubelet", run_services)
