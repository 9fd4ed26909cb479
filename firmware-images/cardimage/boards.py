"""The boards that there are images for: what is packed for each, and how it starts."""

from __future__ import annotations

from dataclasses import dataclass

_PYTHON = (
    *("libpython3.13-minimal", "python3.13-minimal", "libpython3.13-stdlib", "libexpat1", "libbz2-1.0", "liblzma5"),
    *("libffi8", "libsqlite3-0", "libuuid1", "libssl3t64", "libzstd1", "zlib1g"),
)
_FILE_SYSTEMS = ("e2fsprogs", "libext2fs2t64", "libblkid1", "libcom-err2", "libss2", "dosfstools")
_NFT = (
    *("nftables", "libnftables1", "libnftnl11", "libmnl0", "libjansson4", "libgmp10", "libxtables12", "libedit2"),
    *("libbsd0", "libmd0", "libtinfo6"),
    *("iptables", "libip4tc2", "libip6tc2", "libnetfilter-conntrack3", "libnfnetlink0"),
)
_CONTAINERS = (
    *("crun", "libseccomp2", "libyajl2", "libcap2", "libsystemd0"),
    *("conmon", "libglib2.0-0t64", "libpcre2-8-0", "libatomic1", "libmount1", "libselinux1"),
    "containernetworking-plugins",
)
_SSH = ("dropbear-bin", "libtomcrypt1", "libtommath1", "libcrypt1")
_BASE = ("libc6", "libgcc-s1", "busybox-static", "base-files", "tzdata", "ca-certificates")

#: Debian's packages of a machine with busybox as its init; none of their scripts runs
TINY = (*_BASE, *_PYTHON, *_FILE_SYSTEMS, *_NFT, *_CONTAINERS, *_SSH)


@dataclass(frozen=True, slots=True)
class Board:
    """`machine` and `debian`: its processor as wheels and Debian name it. `disk`: the card, as its kernel names it; `separator` is between that
    name and a partition's number."""

    name: str
    description: str
    machine: str
    debian: str
    kernel: str  # the meta package
    disk: str
    separator: str
    console: str
    packages: tuple[str, ...]
    early: tuple[str, ...]  # modules of the initramfs, in the order in which they are loaded
    module_directories: tuple[str, ...]
    module_names: tuple[str, ...]
    boot_size: int  # bytes of the boot partition


_EARLY = ("virtio_mmio", "virtio_blk", "squashfs", "overlay", "ext4", "vfat", "nls_cp437", "nls_ascii", "nls_utf8")
_NETWORK = (
    *("kernel/net/netfilter", "kernel/net/ipv4/netfilter", "kernel/net/ipv6/netfilter", "kernel/net/bridge"),
    "kernel/net/802",
)
_NAMES = (
    *("virtio_net", "virtio_rng", "tun", "veth", "dummy", "macvlan", "ipvlan", "vxlan", "br_netfilter", "tcp_bbr"),
    *("sch_fq", "sch_fq_codel", "zram", "loop", "xfrm_user", "crc32c", "libcrc32c", "gpio_wdt", "i6300esb", "softdog"),
)

BOARDS = {
    board.name: board
    for board in (
        Board(
            "tiny",
            "QEMU -M virt for 64-bit ARM, busybox as init: a node with 128 MB of memory",
            *("aarch64", "arm64", "linux-image-cloud-arm64", "/dev/vda", "", "ttyAMA0"),
            TINY,
            _EARLY,
            _NETWORK,
            _NAMES,
            96 << 20,
        ),
    )
}
