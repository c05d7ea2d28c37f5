"""The kubelet node: a real kubelet with containerd in place of the process node (`devcluster up --node=kubelet`).

    requirements   what the machine must have: Linux, root, cgroups, three Debian packages
    settings       the configuration of containerd, of the pod network and of the kubelet: pure
    machine        what is changed on the machine itself, and how `down` restores it
    images         the pause image, and images from archives into containerd: there is no registry
    services       the process beside the kubelet: claims, GPUs on paper, the Service `kubernetes`

A pod has an address on the bridge `devcluster0` and reaches the API server at the address of the Service `kubernetes`
(the services process forwards it), the machine and other pods, and nothing else: there is no route out, no DNS and no
other Service. One machine runs one such cluster at a time: control groups and addresses are the machine's.
"""
