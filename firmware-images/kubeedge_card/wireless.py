"""The configuration of wpa_supplicant for one access point. Values in, text out."""

from __future__ import annotations

import re

from kubeedge_card.config import Wifi

_KEY = re.compile(r"[0-9a-fA-F]{64}")


def wpa_supplicant(wifi: Wifi) -> str:
    """wpa_supplicant.conf. The name of the network is written as hexadecimal digits, so no character of it means anything; a password stands in
    quotation marks, up to the last one of its line."""
    lines = [
        "update_config=0",
        *([f"country={wifi.country}"] if wifi.country else []),
    ]
    lines += ["network={", f"  ssid={wifi.ssid.encode().hex()}", *(["  scan_ssid=1"] if wifi.hidden else [])]
    if not wifi.password:
        lines += ["  key_mgmt=NONE"]
    elif _KEY.fullmatch(wifi.password):
        lines += ["  key_mgmt=WPA-PSK WPA-PSK-SHA256", f"  psk={wifi.password}"]
    else:
        # WPA3 where the access point has it
        lines += ["  key_mgmt=WPA-PSK WPA-PSK-SHA256 SAE", f'  psk="{wifi.password}"', "  ieee80211w=1"]
    return "\n".join([*lines, "}"]) + "\n"
