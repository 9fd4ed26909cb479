"""AppArmor profiles of containers: those that the kernel has loaded, by name (apparmor(7)). None is made here."""

from __future__ import annotations

from pathlib import Path

from kubeedge.api.pod import Security
from kubeedge.appengine.runtime.base import StartError

_ENABLED = Path("/sys/module/apparmor/parameters/enabled")
_PROFILES = Path("/sys/kernel/security/apparmor/profiles")
_MAX_PROFILES = 1024 * 1024  # bytes of the list


def profile_of(security: Security, enabled: Path = _ENABLED, profiles: Path = _PROFILES) -> str:
    """For the OCI runtime; "" leaves the container as it is. Raises StartError: a container that asks for a profile never runs without."""
    if security.privileged or security.app_armor in ("", "Unconfined"):
        return ""
    what = f"appArmorProfile {security.app_armor}"
    if not _is_enabled(enabled):
        raise StartError("CreateContainerError", f"{what}: the kernel of this node has no AppArmor")
    if security.app_armor == "RuntimeDefault":
        raise StartError(
            "CreateContainerError", f"{what}: this runtime has no profile of its own; name one with Localhost"
        )
    if security.app_armor_profile not in _loaded(profiles):
        raise StartError(
            "CreateContainerError", f"{what}: {security.app_armor_profile!r:.80} is not loaded on this node"
        )
    return security.app_armor_profile


def _is_enabled(file: Path) -> bool:
    try:
        return file.read_text().strip() == "Y"
    except OSError:
        return False


def _loaded(file: Path) -> set[str]:
    """The list has lines like "name (enforce)"."""
    try:
        with open(file) as profiles:
            text = profiles.read(_MAX_PROFILES)
    except OSError:
        return set()
    return {line.rpartition(" (")[0] for line in text.splitlines()}
