"""The root of a machine: Debian's packages and ours, unpacked, and what their scripts would have done, done here. Nothing is emulated."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from cardimage import inits, modules
from cardimage.boards import Board, Firmware
from cardimage.packages import Packages

FILES = Path(__file__).parents[1] / "files"
CARD = Path(__file__).parents[1] / "kubeedge_card"
_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
#: what nobody reads on a machine without a login; of the standard library what no agent imports
_UNNEEDED = (
    *("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bug"),
    *(
        "usr/share/bash-completion",
        "usr/share/common-licenses",
        "usr/share/pixmaps",
        "usr/share/menu",
        "usr/share/perl5",
    ),
    *("usr/share/gcc", "usr/share/gdb", "usr/share/readline", "usr/share/glib-2.0", "usr/share/python3", "usr/include"),
    *("usr/share/zoneinfo/right", "usr/share/zoneinfo/posix", "usr/lib/initramfs-tools"),
    *("usr/share/initramfs-tools", "usr/share/dbus-1", "usr/share/nftables", "usr/share/base-files", "etc/kernel"),
    *(
        "usr/lib/python3.13/idlelib",
        "usr/lib/python3.13/lib2to3",
        "usr/lib/python3.13/tkinter",
        "usr/lib/python3.13/turtledemo",
    ),
    *(
        "usr/lib/python3.13/pydoc_data",
        "usr/lib/python3.13/unittest",
        "usr/lib/python3.13/test",
        "usr/lib/python3.13/ensurepip",
    ),
    *(
        "usr/lib/python3.13/_pyrepl",
        "usr/lib/python3.13/dbm",
        "usr/lib/python3.13/wsgiref",
        "usr/lib/python3.13/sysconfig",
    ),
    *(
        "boot",
        "usr/lib/raspi-firmware",
        "usr/lib/u-boot",
        "usr/lib/aarch64-linux-gnu/gconv",
        "usr/lib/arm-linux-gnueabihf/gconv",
        "usr/src",
        "usr/games",
    ),
)
#: of the wheelhouse, what only the cloud side imports (ADR 54); of Debian's packages what is for compilers, or linked with by none of ours
_UNNEEDED_FILES = (
    *(
        "usr/lib/linux-image-*",
        "usr/lib/modules/*/dtb",
        "usr/lib/modules/*/config",
        "usr/lib/modules/*/System.map",
        "usr/lib/*/*.a",
        "usr/lib/*/libgio-2.0.*",
        "usr/lib/*/libgirepository-2.0.*",
        "usr/lib/*/glib-2.0",
    ),
    *(
        f"usr/lib/python3.*/lib-dynload/{name}.*"
        for name in ("readline", "_dbm", "_gdbm", "_curses", "_curses_panel", "_tkinter")
    ),
    *(
        f"usr/lib/kubeedge/lib/python3.*/site-packages/{name}*"
        for name in ("cryptography", "cffi", "_cffi", "pycparser", "pyroute2")
    ),
)
_ELF = b"\x7fELF"
_DIRECTORIES = (
    *("boot", "data", "dev", "proc", "sys", "run", "tmp", "root", "mnt", "opt", "srv", "home", "var/lib/kubeedge"),
    *("etc/kubeedge", "var/log/pods", "var/lib/cni", "var/lib/containers", "var/tmp", "etc/init.d", "etc/udhcpc"),
)
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:20000:0:99999:7:::\nnobody:*:20000:0:99999:7:::\n",
    "etc/shells": "/bin/sh\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/hostname": "card\n",
    "etc/protocols": "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\n",
}
_TABLES = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")


def build(board: Board, packages: Packages, own: list[Path], root: Path, epoch: int) -> str:
    """Fills `root`, and returns the kernel's release. `own`: our Debian packages for that processor. The kernel is beside `root`, as vmlinuz,
    and what the board's first stage needs is in `firmware`."""
    packages.unpack(board.packages, root)
    release = packages.unpack_kernel(board.kernel, root)
    if board.firmware:
        packages.unpack([package for package, _, _ in board.firmware.sources], root)
        _firmware(board.firmware, root, release)
    _keep_firmware(root / "usr/lib/firmware", board.kept_firmware)
    for package in own:
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    kernels = (root / f"boot/vmlinuz-{release}", root / f"usr/lib/modules/{release}/vmlinuz")
    shutil.move(next(path for path in kernels if path.exists()), root.parent / "vmlinuz")
    _take_modules(board, root, release)
    _certificates(root)
    for name in _UNNEEDED:
        shutil.rmtree(root / name, ignore_errors=True)
    for pattern in _UNNEEDED_FILES:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    _plugins(root)
    _system(board, root, epoch)
    packages.compile_python(root)
    if lacking := missing_libraries(root):
        raise FileNotFoundError(
            f"programs of the image lack {', '.join(lacking)}: a package is missing, or too much was removed"
        )
    return release


def trust(root: Path, keys: Iterable[bytes]) -> None:
    """The public keys, in DER, whose updates the machine takes."""
    (root / "etc/card-update-keys").write_text("".join(f"{key.hex()}\n" for key in keys))


def initramfs(board: Board, root: Path, release: str) -> bytes:
    """Uncompressed: busybox, the modules up to the root, what makes the data partition, and the machine's identity."""
    from cardimage.cpio import Archive

    archive = Archive(directories={"dev", "proc", "sys", "bin"})
    archive.files["bin/busybox"] = (root / "usr/bin/busybox").read_bytes()
    archive.files["init"] = (FILES / "initramfs-init").read_bytes()
    archive.programs |= {"bin/busybox", "init"}
    for name in ("data-partition", "identity"):
        archive.files[name] = (FILES / name).read_bytes()
    directory = root / "usr/lib/modules" / release
    paths = modules.order(_dependencies(directory), board.early)
    for path in paths:
        archive.files[f"modules/{path.rpartition('/')[2]}"] = (directory / path).read_bytes()
    archive.files["modules/order"] = "".join(f"{path.rpartition('/')[2]}\n" for path in paths).encode()
    return archive.data()


def missing_libraries(root: Path) -> list[str]:
    """Shared libraries that a program or library in `root` is linked with, and that are not there."""
    programs = []
    for path in sorted((root / "usr").rglob("*")):
        if path.is_file() and not path.is_symlink() and path.suffix != ".ko":
            with path.open("rb") as file:
                if file.read(4) == _ELF:
                    programs.append(path)
    found = subprocess.run(["readelf", "-d", *map(str, programs)], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.+?)\]", found))
    there = {path.name for path in (root / "usr/lib").rglob("*.so*")}
    return sorted(needed - there)


def _dependencies(directory: Path) -> dict[str, list[str]]:
    """As depmod has written them there."""
    texts = ((directory / f"modules.{name}").read_text() for name in ("softdep", "alias"))
    return modules.with_soft(modules.parse((directory / "modules.dep").read_text()), *texts)


def _take_modules(board: Board, root: Path, release: str) -> None:
    """Those of the board stay, uncompressed: squashfs packs them better, and busybox loads them as they are."""
    directory = root / "usr/lib/modules" / release
    subprocess.run(["depmod", "-b", str(root / "usr"), release], check=True)
    dependencies = _dependencies(directory)
    kept = modules.closure(dependencies, board.module_directories, (*board.module_names, *board.early))
    for path in dependencies:
        if path not in kept:
            (directory / path).unlink()
        elif path.endswith(".xz"):
            (directory / path[:-3]).write_bytes(lzma.decompress((directory / path).read_bytes()))
            (directory / path).unlink()
    for name, _, files in os.walk(directory, topdown=False):
        if not files and not os.listdir(name):
            os.rmdir(name)
    subprocess.run(["depmod", "-b", str(root / "usr"), release], check=True)
    for name in (
        "modules.builtin.modinfo",
        "modules.order",
        "modules.symbols",
        "modules.symbols.bin",
        "modules.devname",
    ):
        (directory / name).unlink(missing_ok=True)


def _firmware(firmware: Firmware, root: Path, release: str) -> None:
    """What is for the boot partition, by the names that it has there."""
    target = root.parent / "firmware"
    target.mkdir(exist_ok=True)
    directories = (
        f"usr/lib/linux-image-{release}",
        f"usr/lib/modules/{release}/dtb",
    )  # of newer kernels the second one
    trees = ("the kernel", next(name for name in directories if (root / name).is_dir()), firmware.device_trees)
    for package, directory, patterns in (*firmware.sources, trees):
        for pattern in patterns:
            if not (found := sorted((root / directory).glob(pattern))):
                raise FileNotFoundError(f"{package} has no {directory}/{pattern}")
            for path in found:
                shutil.copyfile(path, target / path.name)
    (target / "config.txt").write_text(firmware.config)


def _keep_firmware(directory: Path, patterns: tuple[str, ...]) -> None:
    """Of what devices are loaded with, that of the board's own. Without the alternatives of Debian, a name stands for what it would mean."""
    for name in ("regulatory.db", "regulatory.db.p7s"):
        if (directory / f"{name}-debian").exists():
            (directory / f"{name}-debian").rename(directory / name)
    kept = {path for pattern in patterns for path in directory.glob(pattern)}
    # a link that stays needs what it leads to
    kept |= {path.resolve() for path in kept}
    for path in sorted(directory.rglob("*"), reverse=True) if directory.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()


def _certificates(root: Path) -> None:
    """One file of all authorities, as update-ca-certificates makes it."""
    source = root / "usr/share/ca-certificates"
    target = root / "etc/ssl/certs/ca-certificates.crt"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"".join(path.read_bytes() for path in sorted(source.rglob("*.crt"))))
    shutil.rmtree(source)


def _plugins(root: Path) -> None:
    for path in (root / "usr/lib/cni").iterdir():
        if path.name not in _PLUGINS:
            path.unlink()


def _system(board: Board, root: Path, epoch: int) -> None:
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, text in _ACCOUNTS.items():
        (root / name).write_text(text)
    (root / "etc/shadow").chmod(0o600)
    (root / "etc/card-epoch").write_text(f"{epoch}\n")
    (root / "etc/card-board").write_text(f"{board.name}\n")
    for name, place, mode in (
        ("rcS", "etc/init.d/rcS", 0o755),
        ("agent", "etc/init.d/agent", 0o755),
        ("drivers", "etc/init.d/drivers", 0o755),
        ("hotplug", "etc/init.d/hotplug", 0o755),
        ("plugged", "etc/init.d/plugged", 0o755),
        ("memory", "etc/init.d/memory", 0o755),
        ("settle", "etc/init.d/settle", 0o755),
        ("stop", "etc/init.d/stop", 0o755),
        ("tell", "etc/init.d/tell", 0o755),
        ("udhcpc", "etc/udhcpc/script", 0o755),
    ):
        shutil.copyfile(FILES / name, root / place)
        (root / place).chmod(mode)
    if board.init == inits.SYSTEMD:
        inits.systemd(root)
    else:
        shutil.rmtree(root / "usr/lib/systemd", ignore_errors=True)
        inits.busybox(root, hotplug=board.is_open or board.firmware is not None)
    _link(root / "etc/resolv.conf", "/run/resolv.conf")
    _link(root / "etc/mtab", "/proc/self/mounts")
    _link(root / "var/run", "/run")
    _busybox(root)
    for name in _TABLES:
        _link(root / "usr/sbin" / name, "xtables-nft-multi")
    (site,) = (root / "usr/lib/kubeedge/lib").glob("python3.*/site-packages")
    shutil.copytree(CARD, site / CARD.name, ignore=shutil.ignore_patterns("__pycache__"))


def _busybox(root: Path) -> None:
    """A link for each of its applets, where no package brings a program of that name."""
    emulated = subprocess.run(
        ["strings", "-n", "2", str(root / "usr/bin/busybox")], capture_output=True, text=True, check=True
    )
    known = set(emulated.stdout.split())
    for applet in (FILES / "applets").read_text().split():
        if applet in known and not any((root / "usr" / place / applet).exists() for place in ("bin", "sbin")):
            place = "sbin" if applet in ("init", "ip", "modprobe", "udhcpc", "watchdog", "reboot") else "bin"
            _link(root / "usr" / place / applet, "/usr/bin/busybox")


def _link(path: Path, target: str) -> None:
    if path.is_symlink() or path.exists():
        path.unlink() if not path.is_dir() or path.is_symlink() else shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
