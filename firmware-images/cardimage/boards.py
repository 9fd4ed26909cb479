"""The boards that there are images for: what is packed for each, and how it starts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cardimage import inits
from cardimage.boot_script import Loader

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
_WIRELESS = (
    *("wpasupplicant", "libdbus-1-3", "libnl-3-200", "libnl-genl-3-200", "libnl-route-3-200", "libpcsclite1"),
    *("libreadline8t64", "wireless-regdb", "firmware-brcm80211", "bluez-firmware"),
)

_SYSTEMD = (
    *("systemd", "libsystemd-shared", "libacl1", "libapparmor1", "libpam0g", "libaudit1", "libcap-ng0", "libcrypt1"),
    *("libudev1", "liblz4-1", "libkmod2", "libxxhash0"),
)

_ARM, _ARM64 = 2, 22  # as U-Boot's images number processors

#: Debian's packages of a machine with busybox as its init; none of their scripts runs
TINY = (*_BASE, *_PYTHON, *_FILE_SYSTEMS, *_NFT, *_CONTAINERS, *_SSH)


@dataclass(frozen=True, slots=True)
class Firmware:
    """What a board's first stage wants to find on the boot partition: of each package the directory and the files there, `device_trees` of the
    kernel's package, all as patterns; `config` is config.txt."""

    sources: tuple[tuple[str, str, tuple[str, ...]], ...]
    device_trees: tuple[str, ...]
    config: str


@dataclass(frozen=True, slots=True)
class Board:
    """`machine` and `debian`: its processor as wheels and Debian name it. `imager`: what Raspberry Pi Imager calls the boards that it is for."""

    name: str
    description: str
    machine: str
    debian: str
    kernel: str  # the meta package
    consoles: tuple[str, ...]  # the last one is /dev/console
    packages: tuple[str, ...]
    early: tuple[str, ...]  # modules of the initramfs, in the order in which they are loaded
    module_directories: tuple[str, ...]
    module_names: tuple[str, ...]
    loader: Loader
    slot_size: int  # bytes of each of the two
    boot_size: int = 64 << 20  # bytes of the boot partition
    firmware: Firmware | None = None
    kept_firmware: tuple[str, ...] = ()  # of the devices: patterns below /usr/lib/firmware
    imager: tuple[str, ...] = ()
    kernel_suite: str = ""  # where Debian's release has none for it
    init: str = inits.BUSYBOX
    is_open: bool = False  # somebody may plug something in, though it has no firmware of its own


_CARD = ("squashfs", "overlay", "ext4", "vfat", "nls_cp437", "nls_ascii", "nls_utf8")
_EARLY = ("pci_host_generic", "virtio_pci", "virtio_mmio", "virtio_blk", *_CARD)
_NETWORK = (
    *("kernel/net/netfilter", "kernel/net/ipv4/netfilter", "kernel/net/ipv6/netfilter", "kernel/net/bridge"),
    "kernel/net/802",
)
_NAMES = (
    *("virtio_net", "virtio_rng", "tun", "veth", "dummy", "macvlan", "ipvlan", "vxlan", "br_netfilter", "tcp_bbr"),
    *("sch_fq", "sch_fq_codel", "zram", "loop", "xfrm_user", "crc32c", "libcrc32c", "gpio_wdt", "i6300esb", "softdog"),
)
#: what devices of the field are behind; of a Raspberry Pi, too
_FIELD = (
    # CAN: adapters on USB, boards on SPI, adapters that are a serial line, and buses without hardware
    *("can_raw", "gs_usb", "peak_usb", "kvaser_usb", "mcp251x", "mcp251xfd", "slcan", "vcan"),
    # serial lines on USB
    *("cdc_acm", "ftdi_sio", "cp210x", "ch341", "pl2303"),
    # Bluetooth: on a serial line of the board, on USB
    *("hci_uart", "btusb"),
    # I2C and SPI for programs, 1-Wire, and lines of expanders that are USB devices
    *("i2c_dev", "spidev", "w1_gpio", "w1_therm", "ds2490", "gpio_mpsse"),
)
_RASPBERRY_PI = (
    # SD card, power, temperature, watchdog, random numbers, LEDs
    *("sdhci_iproc", "bcm2835", "gpio_regulator", "fixed", "reset_raspberrypi", "raspberrypi_cpufreq"),
    *("bcm2711_thermal", "bcm2835_thermal", "bcm2835_wdt", "iproc_rng200", "bcm2835_rng", "leds_gpio", "ledtrig_timer"),
    # its Ethernet and Wi-Fi
    *("genet", "mdio_bcm_unimac", "broadcom", "smsc95xx", "lan78xx", "microchip", "smsc"),
    *("brcmfmac", "brcmfmac_wcc", "brcmfmac_cyw", "brcmfmac_bca"),
    # USB, and other networks on it
    *("xhci_pci", "xhci_plat_hcd", "dwc2", "phy_generic", "cdc_ether", "rndis_host", "r8152", "ax88179_178a"),
    *("usb_storage", "i2c_bcm2835", "spi_bcm2835", "spi_bcm2835aux", *_FIELD),
)
_EARLY_RASPBERRY_PI = ("fixed", "gpio_regulator", "sdhci_iproc", "bcm2835", *_CARD)
#: `gpu_mem`: the least, which start_cd.elf and start4cd.elf are for; `upstream_kernel`: the device trees are the kernel's own, whose names differ from Raspberry Pi's
_CONFIG = """\
arm_64bit=1
enable_uart=1
upstream_kernel=1
disable_splash=1
gpu_mem=16
kernel=u-boot.bin
"""
#: the same for all of them; it starts what is in a slot
_U_BOOT = ("u-boot-rpi", "usr/lib/u-boot/rpi_arm64", ("u-boot.bin",))
_WIRELESS_FIRMWARE = tuple(
    f"{directory}/{chip}{end}"
    for directory, chips in (
        ("brcm", ("brcmfmac43430", "brcmfmac43430b0", "brcmfmac43455")),
        ("cypress", ("cyfmac43430", "cyfmac43455")),
    )
    for chip in chips
    for end in ("-sdio.bin", "-sdio.clm_blob", "-sdio.raspberrypi,*")
)

#: of the same chips' Bluetooth
_BLUETOOTH_FIRMWARE = tuple(f"brcm/BCM{chip}.hcd" for chip in ("43430A1", "43430B0", "4345C0", "4345C5"))


def _raspberry_pi(
    name: str, description: str, trees: tuple[str, ...], stage: tuple[str, ...], imager: tuple[str, ...]
) -> Board:
    return Board(
        name,
        description,
        *("aarch64", "arm64", "linux-image-arm64", ("tty1", "ttyS1,115200")),
        (*TINY, *_WIRELESS),
        _EARLY_RASPBERRY_PI,
        _NETWORK,
        (*_NAMES, *_RASPBERRY_PI),
        # 512 MB at least; the device tree is the one that the firmware has completed
        Loader(_ARM64, "booti", 0x02000000, 0x08000000, 0x0F000000, "fdt_addr"),
        256 << 20,
        96 << 20,
        Firmware((("raspi-firmware", "usr/lib/raspi-firmware", stage), _U_BOOT), trees, _CONFIG),
        ("regulatory.db*", *_WIRELESS_FIRMWARE, *_BLUETOOTH_FIRMWARE),
        imager,
    )


#: what an Ethernet port and USB of a Raspberry Pi 5 are behind (RP1), and its SD card
_RASPBERRY_PI_5 = (
    *("sdhci_brcmstb", "pinctrl_brcmstb_bcm2712", "gpio_brcmstb", "fixed", "gpio_regulator", "irq_bcm2712_mip"),
    *("rp1_pci", "clk_rp1", "pinctrl_rp1", "macb", "dwc3", "xhci_plat_hcd", "bcm2835_wdt", "iproc_rng200"),
    *("i2c_designware_platform", "spi_dw_mmio"),
)
#: its first stage is in its EEPROM; os_check: the device tree is the kernel's, not Raspberry Pi's
_CONFIG_5 = """\
arm_64bit=1
enable_uart=1
os_check=0
disable_splash=1
kernel=u-boot.bin
"""

_STAGE_3 = ("bootcode.bin", "start.elf", "fixup.dat", "start_cd.elf", "fixup_cd.dat")
_STAGE_4 = ("start4.elf", "fixup4.dat", "start4cd.elf", "fixup4cd.dat")

_VIRT = Loader(_ARM64, "booti", 0x40400000, 0x44000000, 0x47000000, "fdtcontroladdr")

BOARDS = {
    board.name: board
    for board in (
        Board(
            "tiny",
            "QEMU -M virt for 64-bit ARM, busybox as init: a node with 128 MB of memory",
            *("aarch64", "arm64", "linux-image-cloud-arm64", ("ttyAMA0",)),
            TINY,
            _EARLY,
            _NETWORK,
            _NAMES,
            _VIRT,
            128 << 20,
        ),
        Board(
            "qemu",
            "QEMU -M virt for 64-bit ARM, systemd as init: a node with 128 MB of memory",
            *("aarch64", "arm64", "linux-image-cloud-arm64", ("ttyAMA0",)),
            (*TINY, *_SYSTEMD),
            _EARLY,
            _NETWORK,
            _NAMES,
            _VIRT,
            128 << 20,
            init=inits.SYSTEMD,
        ),
        Board(
            "devices",
            "QEMU -M virt for 64-bit ARM with the kernel and the drivers of a Raspberry Pi 5, for devices that QEMU has",
            *("aarch64", "arm64", "linux-image-arm64", ("ttyAMA0",)),
            TINY,
            _EARLY,
            _NETWORK,
            # gpio_sim: a chip whose lines are files, kvaser_pci: the CAN controller of QEMU
            (*_NAMES, *_FIELD, "xhci_pci", "gpio_sim", "kvaser_pci"),
            _VIRT,
            128 << 20,
            kernel_suite="trixie-backports",
            is_open=True,
        ),
        Board(
            "armhf",
            "QEMU -M virt for 32-bit ARM (cortex-a15), busybox as init: a node with 128 MB of memory",
            *("armv7l", "armhf", "linux-image-armmp", ("ttyAMA0",)),
            TINY,
            _EARLY,
            _NETWORK,
            _NAMES,
            Loader(_ARM, "bootz", 0x40400000, 0x44000000, 0x47000000, "fdtcontroladdr"),
            128 << 20,
        ),
        replace(
            _raspberry_pi("rpi5", "Raspberry Pi 5, 64-bit", (), (), ("pi5-64bit",)),
            consoles=("tty1", "ttyAMA10,115200"),
            kernel_suite="trixie-backports",
            early=("pinctrl_brcmstb_bcm2712", "gpio_brcmstb", "fixed", "gpio_regulator", "sdhci_brcmstb", *_CARD),
            module_names=(*_NAMES, *_RASPBERRY_PI, *_RASPBERRY_PI_5),
            firmware=Firmware((_U_BOOT,), ("broadcom/bcm2712*-rpi-5-b.dtb",), _CONFIG_5),
        ),
        _raspberry_pi(
            "rpi4",
            "Raspberry Pi 4, 400 and Compute Module 4, 64-bit",
            ("broadcom/bcm2711-rpi-*.dtb",),
            _STAGE_4,
            ("pi4-64bit",),
        ),
        _raspberry_pi(
            "rpi3",
            "Raspberry Pi 3 and Compute Module 3, 64-bit",
            ("broadcom/bcm2837-rpi-3*.dtb", "broadcom/bcm2837-rpi-cm3*.dtb"),
            _STAGE_3,
            ("pi3-64bit",),
        ),
        _raspberry_pi(
            "zero2w",
            "Raspberry Pi Zero 2 W, 64-bit",
            ("broadcom/bcm2837-rpi-zero-2-w.dtb",),
            _STAGE_3,
            ("pi3-64bit",),
        ),
    )
}
