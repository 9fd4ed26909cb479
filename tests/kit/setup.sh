#!/bin/bash
# Everything that the README's commands need on a fresh Debian: packages, virtual environment, compiled extension, kubectl.
# Usage: setup.sh /usr/bin/python3        Safe to repeat; prints what it does.
set -eu
cd "$(dirname "$0")/../.."
python=${1:-/usr/bin/python3}

say() { printf '\033[1m== %s\033[0m\n' "$*"; }

packages="gcc libc6-dev libssl-dev python3-dev python3-venv openssl ca-certificates
          iproute2 nftables iptables iputils-ping iputils-tracepath traceroute curl busybox-static
          crun runc conmon containernetworking-plugins libcjson1 libdlt2 libwrap0 zstd dbus-daemon
          socat qemu-system-arm u-boot-qemu e2fsprogs mtools dosfstools squashfs-tools kmod binutils"
missing=
for package in $packages; do
    dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -q '^installed$' || missing="$missing $package"
done
export DEBIAN_FRONTEND=noninteractive
as_root=
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null; then as_root=sudo; fi
fi
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ] && [ -z "$as_root" ]; then
        echo "These Debian packages are missing and need root to install:$missing" >&2
        echo "Become root and run: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    say "Debian packages:$missing"
    $as_root apt-get update -q
    $as_root apt-get install -yq --no-install-recommends $missing
fi

# kubectl comes from Debian's kubernetes-client, unpacked below build/: another kubectl of the machine stays as it is.
# So do etcd from etcd-server, containerd, Prometheus and mosquitto (whose libraries are above): installed, they would start as services.
unpacked() { # package (its name in the older release, in the newer one), program in it
    if [ $# = 3 ]; then
        apt-cache show "$1" >/dev/null 2>&1 || shift
        set -- "$1" "${!#}"
    fi
    if ! compgen -G "build/debian/usr/bin/$2" >/dev/null && [ ! -x "build/debian/usr/sbin/$2" ]; then
        say "$2 from Debian's $1"
        mkdir -p build/debian
        (cd build/debian && { apt-get download -q "$1" || { $as_root apt-get update -q && apt-get download -q "$1"; }; } \
            && dpkg-deb -x "$1"_*.deb . && rm -f "$1"_*.deb)
    fi
}
unpacked kubernetes-client kubectl
unpacked etcd-server etcd
unpacked containerd containerd
unpacked prometheus prometheus
unpacked mosquitto mosquitto
# Servers that values of devices are sent to (tests/kit/data_servers.py), with the libraries that not every Debian has.
unpacked redis-tools redis-check-rdb
unpacked mariadb-server-core mariadb-install-db
unpacked victoria-metrics victoria-metrics
unpacked liblzf1 '../lib/*/liblzf.so.1'
unpacked libjemalloc2 '../lib/*/libjemalloc.so.2'
unpacked libnuma1 '../lib/*/libnuma.so.1'
unpacked libaio1 libaio1t64 '../lib/*/libaio.so.1*'
unpacked liburing2 '../lib/*/liburing.so.2'
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || unpacked postgresql-15 postgresql-17 '../lib/postgresql/*/bin/initdb'

if [ ! -x .venv/bin/python ]; then
    say "virtual environment"
    "$python" -m venv .venv
fi
say "Python packages and the compiled extension"
.venv/bin/pip install -q --disable-pip-version-check -r tests/kit/requirements.txt
.venv/bin/pip install -q --disable-pip-version-check --no-build-isolation -e ".[broker]"
.venv/bin/pip install -q --disable-pip-version-check --no-build-isolation -e "./cloud[etcd,kubernetes]"
