"""The pure parts of an image: partition table, initramfs, the choice of modules, what is beside it; and a boot partition by mtools' format."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cardimage import cpio, modules, packages, sbom
from cardimage.packages import Packed
from kubeedge.imageupdate import mbr

DEP = """\
kernel/fs/overlayfs/overlay.ko:
kernel/drivers/net/veth.ko.xz:
kernel/fs/fat/vfat.ko.xz: kernel/fs/fat/fat.ko.xz
kernel/fs/fat/fat.ko.xz:
kernel/net/bridge/br_netfilter.ko: kernel/net/bridge/bridge.ko kernel/net/802/stp.ko kernel/net/llc/llc.ko
kernel/net/bridge/bridge.ko: kernel/net/802/stp.ko kernel/net/llc/llc.ko
kernel/net/802/stp.ko: kernel/net/llc/llc.ko
kernel/net/llc/llc.ko:
"""


def test_a_partition_table_is_read_as_it_was_written() -> None:
    parts = [mbr.Partition(mbr.FAT, 8192, 100, active=True), mbr.Partition(mbr.LINUX, 8292, 5)]
    sector = mbr.table(parts, 0xDEADBEEF)
    assert len(sector) == mbr.SECTOR and mbr.read(sector) == parts
    assert sector[440:444] == bytes.fromhex("efbeadde")


def test_the_system_s_own_tool_reads_it_the_same(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(mbr.table([mbr.Partition(mbr.FAT, 2048, 2048, active=True)], 1) + bytes(4 << 20))
    shown = subprocess.run(["busybox", "fdisk", "-l", "-u", str(disk)], capture_output=True, text=True).stdout
    assert any(
        line.split()[1:5] == ["*", "0,32,33", "0,65,1", "2048"] or "2048" in line.split() for line in shown.splitlines()
    )


@pytest.mark.parametrize(
    "parts",
    [
        [mbr.Partition(0x83, 0, 5)],
        [mbr.Partition(0x83, 5, 0)],
        [mbr.Partition(0x83, 5, 5), mbr.Partition(0x83, 9, 5)],
        [mbr.Partition(0x83, 1 << 31, (1 << 31) + 1)],
        [mbr.Partition(0x83, 10 * n + 1, 5) for n in range(5)],
    ],
)
def test_a_table_that_cannot_be_is_refused(parts: list[mbr.Partition]) -> None:
    with pytest.raises(ValueError):
        mbr.table(parts, 1)


@pytest.mark.parametrize("sector", [b"", bytes(512), b"\x55\xaa" * 255])
def test_what_is_no_table_is_refused(sector: bytes) -> None:
    with pytest.raises(ValueError, match="no partition table"):
        mbr.read(sector)


def test_an_initramfs_is_unpacked_by_another_program(tmp_path: Path) -> None:
    archive = cpio.Archive({"init": b"#!x", "a/b/c": b"data!"}, {"init"}, {"a/l": "b/c"}, {"proc"})
    data = archive.data()
    assert data == cpio.Archive({"a/b/c": b"data!", "init": b"#!x"}, {"init"}, {"a/l": "b/c"}, {"proc"}).data()
    subprocess.run(["busybox", "cpio", "-id"], input=data, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "a/l").read_bytes() == b"data!" and (tmp_path / "proc").is_dir()
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a/b/c").stat().st_mode & 0o777 == 0o644


def test_modules_are_loaded_after_what_they_need() -> None:
    found = modules.order(modules.parse(DEP), ["overlay", "br-netfilter", "vfat", "built_in", "bridge"])
    names = [modules.name(path) for path in found]
    assert names == ["overlay", "llc", "stp", "bridge", "br_netfilter", "fat", "vfat"]


def test_what_modules_ask_for_by_name_is_loaded_before_them() -> None:
    """ext4 finds its checksum by an alias, when it mounts."""
    dep = "fs/jbd2.ko:\nfs/ext4.ko: fs/jbd2.ko\nlib/c.ko: lib/d.ko\nlib/d.ko:\nlib/e.ko:\n"
    soft = "# of depmod\nsoftdep jbd2 pre: crypto-crc32c post: e\nsoftdep gone pre: e\nsoftdep ext4 pre: none\n"
    alias = "alias crypto-crc32c c\nalias crypto-crc32c gone\n"
    found = modules.with_soft(modules.parse(dep), soft, alias)
    assert found["fs/jbd2.ko"] == ["lib/c.ko", "lib/d.ko"]
    assert modules.order(found, ["ext4"]) == ["lib/d.ko", "lib/c.ko", "fs/jbd2.ko", "fs/ext4.ko"]
    assert modules.closure(found, (), ["ext4"]) == {"lib/d.ko", "lib/c.ko", "fs/jbd2.ko", "fs/ext4.ko"}
    assert modules.with_soft(modules.parse(dep), "", "") == modules.parse(dep)


def test_a_board_has_the_modules_of_its_directories_and_what_they_need() -> None:
    chosen = modules.closure(modules.parse(DEP), ["kernel/net/bridge"], ["vfat"])
    assert {modules.name(path) for path in chosen} == {"br_netfilter", "bridge", "stp", "llc", "vfat", "fat"}


def test_what_is_beside_an_image_is_the_same_for_the_same_image() -> None:
    packed = [Packed("libc6", "2.41-12", "arm64", "glibc"), Packed("kubeedge", "1", "all", "kubeedge")]
    text = sbom.spdx("x.img", packed, 0)
    assert text == sbom.spdx("x.img", packed, 0)
    document = json.loads(text)
    assert document["packages"][0]["externalRefs"][0]["referenceLocator"] == (
        "pkg:deb/debian/libc6@2.41-12?arch=arm64&upstream=glibc"
    )
    entry = sbom.imager(
        name="n", description="d", file="f", packed=b"x", size=5, sha256="s", epoch=0, devices=("pi4-64bit",)
    )
    (listed,) = json.loads(entry)["os_list"]
    assert (listed["extract_size"], listed["image_download_size"], listed["devices"]) == (5, 1, ["pi4-64bit"])


def test_the_parts_of_a_kernel_are_the_packages_that_it_needs(tmp_path: Path) -> None:
    """As Debian packs kernels from 7 on."""
    (tmp_path / "tree/DEBIAN").mkdir(parents=True)
    needs = "dracut | initramfs-tools (>= 0.120), linux-base-7.3.4-arm64 (= 7.3.4-1), linux-binary-7.3.4-arm64, linux-modules-7.3.4-arm64 (= 7)"
    control = f"Package: linux-image-7.3.4-arm64\nVersion: 7.3.4-1\nArchitecture: arm64\nMaintainer: a <a@b.c>\nDescription: d\nDepends: {needs}\n"
    (tmp_path / "tree/DEBIAN/control").write_text(control)
    subprocess.run(
        ["dpkg-deb", "--build", str(tmp_path / "tree"), str(tmp_path / "k.deb")], check=True, capture_output=True
    )
    found = packages._depends(tmp_path / "k.deb", ("linux-base-", "linux-binary-", "linux-modules-"))
    assert found == ["linux-base-7.3.4-arm64", "linux-binary-7.3.4-arm64", "linux-modules-7.3.4-arm64"]
    assert packages._depends(tmp_path / "k.deb", ("linux-image-",)) == []
