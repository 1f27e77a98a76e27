#!/bin/busybox sh
# shellcheck shell=dash
# The init of a guest that shows the host's own files over a unified cgroup hierarchy: it runs one command and ends.
# The host's root is shared read-only; what is written lies in memory. The command comes, and its output and exit code
# go, through a second share.
/bin/busybox --install -s /bin
export PATH=/bin

fail() {
    echo "init: $*" >/dev/console
    reboot -f
}

mkdir -p /proc /sys /shared /writable /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
while read -r module; do
    insmod "/modules/$module" || fail "cannot load $module"
done </modules/order

mount -t virtiofs -o ro root /shared || fail "cannot mount the host's root"
mount -t tmpfs writable /writable
mkdir /writable/upper /writable/work
mount -t overlay -o lowerdir=/shared,upperdir=/writable/upper,workdir=/writable/work overlay /root || fail "no overlay"

mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup || fail "cannot mount cgroup2"
mount -t devtmpfs devtmpfs /root/dev
mkdir -p /root/dev/pts /root/dev/shm /root/var/lib/lab
mount -t devpts -o newinstance,ptmxmode=666 devpts /root/dev/pts
mount -t tmpfs -o mode=1777 shm /root/dev/shm
mount -t tmpfs -o mode=755 run /root/run
mount -t tmpfs lab /root/var/lib/lab # the layers of a container cannot lie on an overlay
mkdir /root/run/exchange
mount -t virtiofs exchange /root/run/exchange || fail "cannot mount the exchange directory"
ip link set lo up
hostname unified

# The rest is done by the host's own busybox, since in a chroot no user namespace can be made.
cat >/root/run/rest <<'REST'
/bin/sh /run/exchange/command >/run/exchange/output 2>&1
echo $? >/run/exchange/exit-code
sync
reboot -f
REST
exec switch_root /root /bin/busybox sh /run/rest
