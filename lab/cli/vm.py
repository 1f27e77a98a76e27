"""`lab vm`: guests from images, with docker's comfort and in libvirt's words; domains of any hypervisor by its URI."""

from __future__ import annotations

from lab.cli.verbs import lazy

_RUN = "lab.cli.vm_run"
_LIFE = "lab.cli.vm_life"
_SHOW = "lab.cli.vm_show"
_SNAPSHOT = "lab.cli.vm_snapshot"
_IMAGE = "lab.cli.vm_image"
_KERNEL = "lab.cli.vm_kernel"

VERBS = {
    "run": lazy(_RUN, "run", text="make a machine of an image and run it", example="lab vm run --rm -it busybox sh"),
    "exec": lazy(_RUN, "exec", text="run a program in a running machine", example="lab vm exec -it web sh"),
    "ls": lazy(
        _SHOW, "ls", text="list machines, or a hypervisor's domains", example="lab vm ls -a", aliases=("list", "ps")
    ),
    "start": lazy(_LIFE, "start", text="start machines that do not run", example="lab vm start -a web"),
    "shutdown": lazy(
        _LIFE,
        "shutdown",
        text="ask machines to end, and power off those that do not",
        example="lab vm shutdown -t 5 web",
        aliases=("stop",),
    ),
    "destroy": lazy(_LIFE, "destroy", text="power machines off at once", example="lab vm destroy web"),
    "rm": lazy(_LIFE, "rm", text="remove machines with their disks", example="lab vm rm -f web", aliases=("undefine",)),
    "save": lazy(_LIFE, "save", text="put a machine's memory on disk, and end it", example="lab vm save web"),
    "restore": lazy(_LIFE, "restore", text="have a saved machine go on", example="lab vm restore web"),
    "clone": lazy(_LIFE, "clone", text="make a machine with a copy of another's disk", example="lab vm clone web web2"),
    "logs": lazy(_SHOW, "logs", text="show what a machine's command has written", example="lab vm logs -f web"),
    "console": lazy(_SHOW, "console", text="show what a machine's kernel has written", example="lab vm console web"),
    "inspect": lazy(
        _SHOW, "inspect", text="show what is known of machines", example="lab vm inspect -f '{{.State.Status}}' web"
    ),
    "stats": lazy(_SHOW, "stats", text="show what machines use", example="lab vm stats --format json"),
    "hypervisors": lazy(
        "lab.cli.vm_hypervisors",
        "hypervisors",
        text="list libvirt's hypervisors, and try which this host has",
        example="lab vm hypervisors --format json",
    ),
    "snapshot create": lazy(
        _SNAPSHOT, "create", text="keep a machine as it is", example="lab vm snapshot create web before-upgrade"
    ),
    "snapshot ls": lazy(_SNAPSHOT, "ls", text="list a machine's snapshots", example="lab vm snapshot ls web"),
    "snapshot revert": lazy(
        _SNAPSHOT, "revert", text="have a machine be as it was", example="lab vm snapshot revert web before-upgrade"
    ),
    "snapshot rm": lazy(
        _SNAPSHOT, "rm", text="remove a machine's snapshots", example="lab vm snapshot rm web before-upgrade"
    ),
    "image ls": lazy(_IMAGE, "ls", text="list disks made from images", example="lab vm image ls"),
    "image build": lazy(_IMAGE, "build", text="make the disks of images", example="lab vm image build busybox"),
    "image rm": lazy(_IMAGE, "rm", text="remove disks made from images", example="lab vm image rm busybox"),
    "kernel ls": lazy(_KERNEL, "ls", text="list guest kernels", example="lab vm kernel ls --format json"),
    "kernel fetch": lazy(_KERNEL, "fetch", text="fetch a guest kernel", example="lab vm kernel fetch generic"),
    "kernel import": lazy(
        _KERNEL,
        "import_",
        text="take a kernel and its modules from files",
        example="lab vm kernel import /boot/vmlinuz-6.1.0-1-amd64 /lib/modules/6.1.0-1-amd64",
    ),
    "kernel build-initramfs": lazy(
        _KERNEL,
        "build_initramfs",
        text="make the initramfs that guests boot with",
        example="lab vm kernel build-initramfs --module virtiofs",
    ),
}
