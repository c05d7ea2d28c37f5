"""The process node: registers a Node and runs each pod bound to it as processes of this machine.

    watch (agent) -> one PodWorker for each pod (pod) -> one ContainerRunner for each container (container)
                  -> one shim process for each run of a container (shim), which outlives the node process

Folders, all below the cluster's `pods/`:

    UID/pod.json                                 the pod's identity, for whoever finds the folder
    UID/volumes/NAME/                            emptyDir, and files of configMap, secret, downwardAPI, projected
    UID/kubeconfig                               where a ServiceAccount token is mounted; KUBECONFIG names it
    UID/containers/NAME/N/                       the N-th run of a container, counted from 0
    UID/containers/NAME/N/rootfs/                what the container takes for /: its working directory and mounts
    UID/containers/NAME/N/{launch,run,exit}.json the shim's orders; what it started; how that ended
    UID/containers/NAME/N/log                    output, a line each, in the CRI log format

Paths. A process sees the machine's own file system, so a container's absolute paths do not exist as such. The rule:
the process starts in `rootfs` + workingDir; mounts are symbolic links below `rootfs`; an environment value, an
argument, or the part behind the first `=` of an argument that *is* a path at or below the workingDir or a mount is
replaced by its place below `rootfs`. Nothing inside longer texts is touched: a shell script uses relative paths or
$DEVCLUSTER_ROOTFS.

Pods run with the rights of the user who brought the cluster up. Not done here, on purpose: limits, users, capabilities
and read-only roots are not enforced; all pods share the machine's network (pod IP 127.0.0.1, no Services, no cluster
DNS); exec by WebSocket alone, which `kubectl exec` does not speak to a node; no attach or port-forward; no preStop or
postStart hooks; no restartPolicy of a single container; files of a ConfigMap or Secret are those of the pod's start.
"""
