#!/bin/busybox sh
# shellcheck shell=dash
# The init of the testbed's initramfs: the root is a read-only disk in memory, and what is written on it lies in memory
# above it; images and guests lie on a disk of their own, since the layers of a container cannot lie on an overlay.
/bin/busybox --install -s /bin
export PATH=/bin

fail() {
    echo "testbed: $*" >/dev/console
    reboot -f
}

mkdir -p /proc /sys /below /cover /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
while read -r module; do
    insmod "/modules/$module" || fail "cannot load $module"
done </modules/order
mount -t devtmpfs devtmpfs /dev

mount -t erofs -o ro /dev/pmem0 /below || fail "cannot mount the root disk"
mount -t tmpfs cover /cover
mkdir /cover/upper /cover/work
mount -t overlay -o lowerdir=/below,upperdir=/cover/upper,workdir=/cover/work overlay /root || fail "no overlay"

mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup || fail "cannot mount cgroup2"
mount -t devtmpfs devtmpfs /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts /root/dev/pts
mount -t tmpfs -o mode=1777 shm /root/dev/shm
mount -t tmpfs -o mode=755 run /root/run
mount -t tmpfs -o mode=1777 tmp /root/tmp
ln -s /proc/self/fd /root/dev/fd

data=/dev/pmem1
[ -b $data ] || data=/dev/vda
mkdir -p /root/data /root/var/lib/lab /root/var/cache/lab
mount -t ext4 $data /root/data || fail "cannot mount the data disk"
mount --bind /root/data/lib /root/var/lib/lab
mount --bind /root/data/cache /root/var/cache/lab

ip link set lo up
hostname testbed
mkdir /root/run/testbed
cp /agent.py /python /root/run/testbed/
[ ! -d /payload ] || cp /payload/* /root/run/testbed/
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec switch_root /root "$(cat /python)" -I /run/testbed/agent.py
