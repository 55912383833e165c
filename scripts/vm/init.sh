#!/bin/busybox sh
# The first process of the virtual machine: mounts what the outside shares, takes over the network and runs the
# bundle as Kata's agent does. Runs twice: in the initramfs, and again on a tmpfs, because runc pivots its root.
export PATH=/bin
if [ "$1" != second ]; then
  /bin/busybox --install -s /bin
  mkdir -p /proc /sys /dev /new
  mount -t proc proc /proc
  for module in $(cat /modules/order); do insmod "/modules/$module.ko" || exit 1; done
  mount -t tmpfs -o mode=755 tmpfs /new
  cp -a /bin /lib /lib64 /init /new/
  mkdir /new/proc /new/sys /new/dev /new/tmp /new/run /new/share /new/writable /new/bundle
  umount /proc
  exec switch_root /new /init second
fi
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=755 tmpfs /run
mount -t securityfs securityfs /sys/kernel/security
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
# Execute-only files and owners are as outside: the guest checks access, the outside opens as root.
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro share /share || exit 1
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=mmap writable /writable || exit 1
cp /share/config.json /bundle/config.json
ip link set lo up
. /share/network.sh
echo "init: up after $(cut -d' ' -f1 /proc/uptime) s" >/dev/console
# Port 1 carries output, signals and the exit code; port 2 standard input.
tries=0
until [ -e /dev/vport*p1 ] && [ -e /dev/vport*p2 ]; do
  tries=$((tries + 1))
  [ $tries -gt 100 ] && exit 1
  sleep 0.05
done
exec /bin/agent /dev/vport*p1 /dev/vport*p2 /bin/runc --root /run/runc run --bundle /bundle sandbox
