"""docs/reference/environment.md: the environment variables that trainer and command line read, and the operator sets.

The code reads them in many places, so this table is written by hand; tests/tools/test_environment.py fails where it
lacks a variable of the code, or has one that the code lacks.
"""

from __future__ import annotations

from dataclasses import dataclass

from model_garden.contract.names import ANNOTATIONS_ENV, CONFIG_ENV, FETCHED_ENV, PREFLIGHT_DONE_ENV, TERMINATION_ENV
from tools.reference.markdown import page, table


@dataclass(frozen=True)
class Variable:
    """One variable: who sets it unless you do, and what it does."""

    name: str
    set_by: str
    meaning: str


OPERATOR = "operator"
BOTH = "operator, `model-garden`"
TRAINER = "trainer"
YOU = "you"
TRACKING = "operator, from `tracking.secret`"
SECRET = "operator, from `storage.credentialsSecret`"
TABLES = {
    "Trainer": [
        Variable(CONFIG_ENV, BOTH, "Name and effective spec of the job, as JSON. Required."),
        Variable(TERMINATION_ENV, "`model-garden`", "File for the outcome. Default: `termination-log`, if it exists."),
        Variable(
            ANNOTATIONS_ENV,
            "`model-garden`",
            "File with the annotations that control the job. Default: `podinfo/annotations`, which the kubelet writes.",
        ),
        Variable("HF_TOKEN", "operator, from `hubTokenSecret`", "Token for the Hugging Face Hub."),
        Variable(
            "HF_ENDPOINT",
            "operator, from `hub.endpoint`; or you",
            "Address of the Hub. Default: `https://huggingface.co`.",
        ),
        Variable("LLAMA_CPP_DIR", YOU, "Folder of llama.cpp, for `saveMethod: gguf`. Default: its programs on `PATH`."),
        Variable("HF_HUB_OFFLINE", OPERATOR, "`1`: models are read from the cache alone. Set after a preflight."),
        Variable(
            PREFLIGHT_DONE_ENV,
            OPERATOR,
            "A preflight filled the cache. A file that is missing there all the same is downloaded again.",
        ),
        Variable(FETCHED_ENV, TRAINER, "Copies of what was fetched from remote storage, as JSON."),
        Variable("AWS_ACCESS_KEY_ID", SECRET, "Account for `s3://` addresses, as the SDKs of AWS read it."),
        Variable("AWS_SECRET_ACCESS_KEY", SECRET, "Its secret key."),
        Variable("AWS_SESSION_TOKEN", SECRET, "Its session token, if it has one."),
        Variable("GOOGLE_SERVICE_ACCOUNT_KEY", SECRET, "Service account for `gs://` addresses, as JSON."),
        Variable("GOOGLE_BEARER_TOKEN", SECRET, "Access token for `gs://` addresses, instead of a service account."),
        Variable(
            "MLFLOW_TRACKING_URI",
            TRACKING,
            "Server of MLflow, unless `tracking.uri` gives it. `MLFLOW_TRACKING_TOKEN`, or `MLFLOW_TRACKING_USERNAME` "
            "and `MLFLOW_TRACKING_PASSWORD`, are its credentials.",
        ),
        Variable("MLFLOW_HTTP_REQUEST_TIMEOUT", TRAINER, "`10`: seconds that a request to MLflow may take."),
        Variable("MLFLOW_HTTP_REQUEST_MAX_RETRIES", TRAINER, "`0`: the trainer itself tries again."),
        Variable("WANDB_API_KEY", TRACKING, "Key for W&B. Without it, the run is kept offline."),
        Variable("WANDB_MODE", YOU, "`offline`: the run of W&B is kept in the output folder, for `wandb sync`."),
        Variable("WANDB_BASE_URL", TRACKING, "Server of W&B, unless `tracking.uri` gives it."),
        Variable("TRACKIO_SERVER_URL", TRACKING, "Server of Trackio, unless `tracking.uri` gives it."),
        Variable("TRACKIO_SPACE_ID", TRACKING, "Space of Trackio, ORG/NAME; its token is `HF_TOKEN`."),
        Variable("TRACKIO_DIR", TRAINER, "Trackio's database. Default: `trackers/trackio` in the output folder."),
        Variable("HOME", OPERATOR, "Home folder, since the root of the pod is read-only."),
    ],
    "Several processes": [
        Variable("NNODES", OPERATOR, "Pods of the job. Default: 1."),
        Variable("NODE_RANK", OPERATOR, "Which of the pods this is, from 0."),
        Variable("MASTER_ADDR", OPERATOR, "Host of the first pod. Default on one node: 127.0.0.1."),
        Variable("MASTER_PORT", OPERATOR, "Port of the rendezvous. Default: 29500, on one node a free port."),
        Variable("NPROC_PER_NODE", "`model-garden`", "Processes in this pod. Default: `spec.gpus`."),
        Variable("RANK", TRAINER, "Rank among all processes, as `torchrun` sets it."),
        Variable("LOCAL_RANK", TRAINER, "Rank among the processes of this pod."),
        Variable("WORLD_SIZE", TRAINER, "Processes of all pods."),
        Variable("LOCAL_WORLD_SIZE", TRAINER, "Processes of this pod."),
        Variable("OMP_NUM_THREADS", TRAINER, "CPU threads of each process. Default with several in a pod: 1."),
        Variable("ACCELERATE_TORCH_DEVICE", TRAINER, "Device of accelerate. `cpu` where there is no GPU."),
    ],
    "Caches": [
        Variable("HF_HOME", TRAINER, "Downloads from the Hub: `cache/huggingface`."),
        Variable("XDG_CACHE_HOME", TRAINER, "Other caches."),
        Variable("TORCH_HOME", TRAINER, "Downloads of torch."),
        Variable("TORCHINDUCTOR_CACHE_DIR", TRAINER, "Graphs that torch.compile made."),
        Variable("TRITON_CACHE_DIR", TRAINER, "Kernels that Triton made."),
        Variable("UNSLOTH_COMPILE_LOCATION", TRAINER, "Modules that Unsloth made."),
        Variable("MPLCONFIGDIR", TRAINER, "Cache of matplotlib."),
    ],
    "Libraries": [
        Variable("HF_HUB_DISABLE_TELEMETRY", TRAINER, "`1`: the Hub client sends no telemetry."),
        Variable("DO_NOT_TRACK", TRAINER, "`1`: libraries send no telemetry."),
        Variable("UNSLOTH_DISABLE_STATISTICS", TRAINER, "`1`: Unsloth sends no statistics."),
        Variable("UNSLOTH_DISABLE_CPU_FALLBACK", TRAINER, "`1`: Unsloth fails without a GPU."),
        Variable("UNSLOTH_AUTO_INSTALL", TRAINER, "`0`: Unsloth installs nothing."),
        Variable("HF_HUB_DISABLE_PROGRESS_BARS", TRAINER, "`1`: the log holds no progress bars."),
        Variable("TOKENIZERS_PARALLELISM", TRAINER, "`false`: tokenizers start no threads."),
        Variable(
            "TRANSFORMERS_DISABLE_TORCH_CHECK",
            TRAINER,
            "`1`: models do not count image tokens again, which waits for the GPU; rows are checked before.",
        ),
        Variable(
            "UNSLOTH_FORCE_SINGLE_COMPILE_WORKER", TRAINER, "`0`: Unsloth compiles with several processes in a pod too."
        ),
        Variable(
            "TORCH_CUDNN_SDPA_DEPRIORITIZED",
            TRAINER,
            "`1`: PyTorch uses cuDNN's attention last, because cuDNN makes a plan for each new shape of a batch.",
        ),
        Variable(
            "PYTORCH_ALLOC_CONF",
            TRAINER,
            "`expandable_segments:True`: less GPU memory is lost between batches of different shape.",
        ),
    ],
    "Command line": [
        Variable("KUBECONFIG", YOU, "Kubeconfig files. Default: the service account in a pod, else `~/.kube/config`."),
        Variable(
            "MODEL_GARDEN_DATA_CLAIM",
            YOU,
            "Claim of data sets of a cluster, for `upload`, `data` and `serve`. Default: `model-garden-data`.",
        ),
        Variable(
            "MODEL_GARDEN_MODELS_CLAIM",
            YOU,
            "Claim of models of a cluster, for `download`, `models` and `serve`. Default: `model-garden-models`.",
        ),
        Variable(
            "MODEL_GARDEN_STORAGE_IMAGE",
            YOU,
            "Image of the pod that mounts both claims. Default: `model-garden/operator` of this version.",
        ),
        Variable(
            "MODEL_GARDEN_STORAGE_PULL_SECRETS",
            YOU,
            "Secrets of the namespace with which that image is pulled, separated by commas.",
        ),
        Variable(
            "MODEL_GARDEN_TEMPORARY_STORAGE",
            "the chart",
            "Size of the temporary folder of the REST API, such as `1Gi`; uploads use at most nine tenths of it.",
        ),
        Variable("CUDA_VISIBLE_DEVICES", YOU, "GPUs that `train`, `train-vision` and `run` use."),
        Variable(
            "MODEL_GARDEN_FETCH_PRIVATE",
            YOU,
            "`true` lets `fetchPictures` fetch images from private, loopback and link-local addresses.",
        ),
        Variable("NO_COLOR", YOU, "Turns color off when it is not empty."),
        Variable("TERM", YOU, "`dumb` turns color off."),
        Variable(
            "MODEL_GARDEN_SESSION_KEY",
            "you, the chart",
            "Random text of 32 characters or more that seals the session cookies of `serve`. Default: a new one.",
        ),
        Variable("XDG_STATE_HOME", YOU, "Folder of `model-garden/error.log`. Default: `~/.local/state`."),
    ],
}
NOTES = {
    "Trainer": "`spec.podTemplate.env` sets variables of the container. It may not set `MODEL_GARDEN_CONFIG`.",
    "Several processes": "The trainer starts a process for each GPU. It runs under `torchrun` too.",
    "Caches": "They lie below `cache/` of the workspace where there is that folder, as in a pod.",
    "Libraries": "A value that you set is kept.",
}


def environment_reference() -> str:
    """The page as Markdown."""
    parts = ["Those that the operator reads are its [settings](operator-settings.md)."]
    for title, variables in TABLES.items():
        parts += [f"## {title}", *([NOTES[title]] if title in NOTES else [])]
        rows = [(f"`{variable.name}`", variable.set_by, variable.meaning) for variable in variables]
        parts.append(table(["variable", "set by", "meaning"], rows))
    return page("Environment variables", "tools/reference/environment.py", *parts)
