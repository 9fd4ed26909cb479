"""TUN devices (Linux: Documentation/networking/tuntap.rst), with as much offload as the kernel gives.

With a virtio header the kernel hands over packets of up to 64 KiB whose checksum is not computed yet; they travel like that.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct

from kubeedge.errors import Unavailable
from kubeedge.kit.dataclasses import dataclass

_TUNSETIFF = 0x400454CA
_TUNGETFEATURES = 0x800454CF
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_TUNSETVNETLE = 0x400454DC
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_CSUM, _TSO4, _TSO6, _TSO_ECN, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
#: tried in turn: UDP segmentation needs Linux 6.2
_OFFLOADS = (_CSUM | _TSO4 | _TSO6 | _TSO_ECN | _USO4 | _USO6, _CSUM | _TSO4 | _TSO6 | _TSO_ECN, _CSUM, 0)
_VNET_HEADER = 10  # bytes of struct virtio_net_hdr


@dataclass(frozen=True, slots=True)
class TunDevice:
    """An open device, whose interface lasts as long as the descriptor. `vnet_hdr`: packets have a virtio header of 10 bytes."""

    fd: int
    name: str
    vnet_hdr: bool
    uso: bool  # UDP super-packets may be written (Linux 6.2)


def open_tun(name: str, *, offload: bool = True) -> TunDevice:
    """Create the device in this network namespace; it is removed with the descriptor. Raises Unavailable, with what to do.

    Without offload, or on a kernel that has no virtio headers for TUN, packets come in the size of the MTU.
    """
    try:
        return _opened(name, offload)
    except OSError as exc:
        raise Unavailable(f"no TUN {name}: {_why(exc)}") from exc


def _why(exc: OSError) -> str:
    match exc.errno:
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return "/dev/net/tun is missing: load the module (modprobe tun), or give the container the device"
        case errno.EBUSY:
            return "another process has it: is a second agent or cloud running here? Otherwise name another one in the configuration"
        case errno.EINVAL:
            return "a device of this name is there, and is no TUN (`ip -d link`): remove it, or name another one in the configuration"
        case errno.EACCES:
            return "this user may not open /dev/net/tun: udev gives it the mode 0666 (chmod 0666 /dev/net/tun)"
        case errno.EPERM:
            return "this needs root, or the capability CAP_NET_ADMIN; in a container, the device has to be allowed, too"
    return exc.strerror or str(exc)


def _opened(name: str, offload: bool) -> TunDevice:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not offload or not _supports_vnet_hdr(fd):
            _set_flags(fd, name, _IFF_TUN | _IFF_NO_PI)
            return TunDevice(fd, name, vnet_hdr=False, uso=False)
        _set_flags(fd, name, _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", _VNET_HEADER))
        # a frame crosses to machines of the other byte order: the header's words are little endian everywhere
        fcntl.ioctl(fd, _TUNSETVNETLE, struct.pack("i", 1))
        taken = 0
        for features in _OFFLOADS:
            with contextlib.suppress(OSError):
                fcntl.ioctl(fd, _TUNSETOFFLOAD, features)
                taken = features
                break
        return TunDevice(fd, name, vnet_hdr=True, uso=bool(taken & _USO4))
    except BaseException:
        os.close(fd)
        raise


def _supports_vnet_hdr(fd: int) -> bool:
    (features,) = struct.unpack("I", fcntl.ioctl(fd, _TUNGETFEATURES, bytes(4)))
    return bool(features & _IFF_VNET_HDR)


def _set_flags(fd: int, name: str, flags: int) -> None:
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode("ascii"), flags))
