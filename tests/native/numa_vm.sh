#!/bin/bash
# Runs a command in an emulated machine with several NUMA nodes (QEMU, without need of KVM).
#
#   tests/native/numa_vm.sh .venv/bin/python -m pytest tests/native/test_placement.py
#
# The guest boots a Debian kernel over this machine's own files, read-only under an overlay in memory that vanishes
# with it, runs the command in the current directory as root, and the script ends with the command's status.
# By default: nodes 0 and 1 with two CPUs each, and node 2 with memory alone; cgroup v2 is mounted.
#
# Environment: CPU_NODES=2 MEMORY_NODES=1 CPUS_PER_NODE=2 MIB_PER_NODE=1024 LIMIT_S=600
# Needs a Debian host with qemu-system-x86, seabios, busybox-static and cpio, and apt-get to download a kernel once.
# The guest is up in about 15 s; importing numpy in it takes as long again.
set -euo pipefail

cpu_nodes=${CPU_NODES:-2} memory_nodes=${MEMORY_NODES:-1} cpus_per_node=${CPUS_PER_NODE:-2}
mib_per_node=${MIB_PER_NODE:-1024} limit_s=${LIMIT_S:-600}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cluster-engine-numa-vm

if [ $# -eq 0 ]; then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
for tool in qemu-system-x86_64 cpio /bin/busybox dpkg-deb; do
  if ! command -v "$tool" >/dev/null; then
    echo "numa_vm.sh: $tool is missing; apt-get install --no-install-recommends qemu-system-x86 seabios busybox-static cpio" >&2
    exit 2
  fi
done

# The kernel package is unpacked, not installed.
fetch_kernel() {
  local package
  package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p')
  if [ -z "$package" ]; then
    echo "numa_vm.sh: apt knows no linux-image-amd64; run apt-get update" >&2
    exit 2
  fi
  rm -rf "$cache/deb" "$cache/kernel.new"
  mkdir -p "$cache/deb" "$cache/kernel.new"
  (cd "$cache/deb" && apt-get download "$package" >&2 && dpkg-deb -x ./*.deb "$cache/kernel.new")
  mv "$cache/kernel.new" "$cache/kernel"
}

# A first root with busybox and the modules that reach the host's files over 9p; they load in the order listed.
build_initrd() {
  local root=$cache/initrd modules applet module
  modules=$(echo "$cache"/kernel/lib/modules/*)
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,proc,sys,lower,rw,newroot,modules}
  cp /bin/busybox "$root/bin/busybox"
  for applet in sh mount insmod mkdir switch_root poweroff; do ln -s busybox "$root/bin/$applet"; done
  for module in drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_legacy_dev \
    drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci fs/netfs/netfs fs/fscache/fscache net/9p/9pnet \
    net/9p/9pnet_virtio fs/9p/9p fs/overlayfs/overlay; do
    if [ -f "$modules/kernel/$module.ko" ]; then # what is not a module is built into this kernel
      cp "$modules/kernel/$module.ko" "$root/modules/"
      echo "insmod /modules/${module##*/}.ko" >>"$root/modules/order"
    fi
  done
  cat >"$root/init" <<'INIT'
#!/bin/sh
export PATH=/bin
mount -t devtmpfs devtmpfs /dev; mount -t proc proc /proc; mount -t sysfs sysfs /sys
. /modules/order
options=trans=virtio,version=9p2000.L,msize=524288
mount -t 9p -o $options,ro,cache=loose host /lower || poweroff -f
mount -t tmpfs -o size=75% tmpfs /rw; mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /newroot || poweroff -f
mkdir -p /newroot/mnt/exchange; mount -t 9p -o $options,rw exchange /newroot/mnt/exchange
for directory in dev proc sys; do mount --move /$directory /newroot/$directory; done
mkdir -p /newroot/dev/shm; mount -t tmpfs tmpfs /newroot/dev/shm
mount -t cgroup2 cgroup2 /newroot/sys/fs/cgroup
exec switch_root /newroot /bin/bash /mnt/exchange/guest.sh
INIT
  chmod +x "$root/init"
  (cd "$root" && find . | cpio --create --format=newc --quiet | gzip -1) >"$cache/initrd.new"
  mv "$cache/initrd.new" "$cache/initrd.gz"
}

mkdir -p "$cache"
[ -d "$cache/kernel" ] || fetch_kernel
# The first root belongs to this version of the script.
[ "$cache/initrd.gz" -nt "$0" ] || build_initrd

run=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf "$run"' EXIT
mkdir "$run/exchange"
# The guest has no network device and no init: when the command ends, the machine is switched off.
cat >"$run/exchange/guest.sh" <<GUEST
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8
cd $(printf %q "$PWD")
($(printf '%q ' "$@")) >/mnt/exchange/output 2>&1 </dev/null
echo \$? >/mnt/exchange/status.new
mv /mnt/exchange/status.new /mnt/exchange/status
sync
echo o >/proc/sysrq-trigger
sleep 100
GUEST

machine=(-smp "$((cpu_nodes * cpus_per_node)),sockets=$cpu_nodes,cores=$cpus_per_node,threads=1")
n_nodes=$((cpu_nodes + memory_nodes))
for ((node = 0; node < n_nodes; node++)); do
  cpus=
  if ((node < cpu_nodes)); then cpus=,cpus=$((node * cpus_per_node))-$(((node + 1) * cpus_per_node - 1)); fi
  machine+=(-object "memory-backend-ram,size=${mib_per_node}M,id=memory$node"
    -numa "node,nodeid=$node$cpus,memdev=memory$node")
done
for ((a = 0; a < n_nodes; a++)); do
  for ((b = a + 1; b < n_nodes; b++)); do machine+=(-numa "dist,src=$a,dst=$b,val=$((20 + b - a))"); done
done

timeout --signal=KILL "$limit_s" qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max \
  -m "$((n_nodes * mib_per_node))M" "${machine[@]}" \
  -kernel "$(echo "$cache"/kernel/boot/vmlinuz-*)" -initrd "$cache/initrd.gz" \
  -append "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off nokaslr tsc=reliable" \
  -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
  -virtfs "local,path=$run/exchange,mount_tag=exchange,security_model=none" \
  -nodefaults -display none -serial "file:$run/console" -no-reboot -device virtio-rng-pci \
  </dev/null >"$run/qemu" 2>&1 || true

cat "$run/exchange/output" 2>/dev/null || true
if [ ! -f "$run/exchange/status" ]; then
  echo "numa_vm.sh: the guest ended without a status within $limit_s s" >&2
  tail -n 5 "$run/qemu" >&2
  tail -n 20 "$run/console" >&2
  exit 125
fi
exit "$(cat "$run/exchange/status")"
