"""The services that the packages bring: those that `kubeedge join` and `init` write elsewhere, run by the packages' own Python."""

from __future__ import annotations

from kubeedge.cli import service

USER = "kubeedge"
_CONFIG = "/etc/kubeedge/cloud.yaml"
_RUN = "/run/kubeedge-cloud"  # that of the agent, /run/kubeedge, is root's
# The configuration may have passwords in it and stays root's: its user reads a copy of the moment. (LoadCredential's copy is
# unreadable on systems whose /run has no ACLs.)
# CAP_NET_ADMIN makes the TUN device, CAP_NET_BIND_SERVICE opens ports below 1024.
_CLOUD_SETTINGS = f"""\
{service.CLOUD.settings}
User={USER}
Group={USER}
UMask=0077
AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE
StateDirectory=kubeedge/cloud
StateDirectoryMode=0700
RuntimeDirectory={_RUN.removeprefix("/run/")}
RuntimeDirectoryMode=0700
BindPaths={_RUN}:/run/kubeedge
ProtectSystem=full
ProtectHome=yes
# what a command of root has put there, such as a store that was restored
ExecStartPre=+/bin/chown -R {USER}:{USER} /var/lib/kubeedge/cloud
ExecStartPre=+/usr/bin/install -m 0400 -o {USER} -g {USER} {_CONFIG} {_RUN}/cloud.yaml"""


def edge() -> str:
    """The unit of the agent."""
    return service.unit_text(service.EDGE, service.packaged_command(service.EDGE))


def cloud() -> str:
    """The unit of the cloud side, which runs as a user of its own."""
    unit = service.CLOUD._replace(settings=_CLOUD_SETTINGS)
    return service.unit_text(unit, [*service.packaged_command(unit), "--config", f"{_RUN}/cloud.yaml"])


def cloud_tmpfiles() -> str:
    """The commands of root find the cloud's socket where they look for it (tmpfiles.d(5))."""
    return f"d /run/kubeedge 0700 root root -\nL+ /run/kubeedge/cloud.sock - - - - {_RUN}/cloud.sock\n"
