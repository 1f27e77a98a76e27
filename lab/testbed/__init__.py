"""A Debian machine in QEMU with real KVM and cgroup v2 only, on any host: software emulates the processor, SVM too."""
