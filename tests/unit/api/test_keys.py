"""One place knows the formats of keys: what the functions make, what its table says, and no other file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId

T, N = TenantId("acme"), NodeName("edge1")
ROOT = Path(__file__).parents[3]

MADE = {
    "/tenants/T": keys.tenant(T),
    "/tenant-numbers/NUMBER": keys.tenant_number(7),
    "/t/T/nodes/N": keys.nodes(T) + N,
    "/t/T/numbers/NUMBER": keys.node_number(T, 7),
    "/t/T/subnets/N": keys.subnets(T, N),
    "/t/T/certificates/N": keys.certificate(T, N),
    "/t/T/tokens/ID": keys.tokens(T) + "ID",
    "/t/T/boards/SERIAL": keys.boards(T) + "SERIAL",
    "/t/T/registry/GROUP/RESOURCE[/NAMESPACE]/NAME": keys.registry(T) + "GROUP/RESOURCE[/NAMESPACE]/NAME",
    "/t/T/edge/N/desired/RESOURCE/NAMESPACE/NAME": keys.edge_desired(T, N) + "RESOURCE/NAMESPACE/NAME",
    "/t/T/edge/N/reported/RESOURCE/NAMESPACE/NAME": keys.edge_reported(T, N) + "RESOURCE/NAMESPACE/NAME",
    "/t/T/edge/N/messages/log/POSITION": keys.message_log(T, N) + "POSITION",
    "/t/T/edge/N/messages/readers/NAME": keys.message_readers(T, N) + "NAME",
    "/t/T/edge/N/sync/up": keys.edge_sync_up(T, N),
    "/t/T/edge/N/writes/done": keys.edge_writes_done(T, N),
    "/authority": keys.AUTHORITY,
    "/kubeconfigs/T/ID": keys.kubeconfigs(T) + "ID",
    "/gateway/hosts/HOST": keys.GATEWAY_HOSTS + "HOST",
    "/sessions/T/N": keys.session(T, N),
    "/processes/P": keys.PROCESSES + "P",
    "/leaders/WORK": keys.LEADERS + "WORK",
    "/bus/relays/P": keys.RELAYS + "P",
    "/bus/numbers/NUMBER": keys.relay_number(7),
    "/bus/tuns/NUMBER/ADDRESS": keys.relay_tun(7, "ADDRESS"),
    "/bus/nodes/T/N": keys.linked(T, N),
    "/desired/RESOURCE/NAMESPACE/NAME": keys.desired("RESOURCE", "NAMESPACE", "NAME"),
    "/reported/RESOURCE/NAMESPACE/NAME": keys.reported("RESOURCE", "NAMESPACE", "NAME"),
    "/sync/down": keys.SYNC_DOWN,
    "/local/written/RESOURCE/NAMESPACE/NAME": keys.WRITTEN + "RESOURCE/NAMESPACE/NAME",
    "/local/devices/NAMESPACE/NAME": keys.local_device("NAMESPACE", "NAME"),
    "/local/podcertificates/NAMESPACE/POD": keys.local_certificates("NAMESPACE", "POD"),
    "/local/mappers/NAME": keys.MAPPERS + "NAME",
}


def test_the_table_names_every_format_and_no_other() -> None:
    assert re.findall(r"^    (/\S+)", keys.__doc__ or "", re.MULTILINE) == list(MADE)


@pytest.mark.parametrize("form", MADE)
def test_a_function_makes_what_the_table_says(form: str) -> None:
    shown = (
        form.replace("/t/T/", f"/t/{T}/")
        .replace("/T/N", f"/{T}/{N}")
        .replace("tenants/T", f"tenants/{T}")
        .replace("kubeconfigs/T", f"kubeconfigs/{T}")
    )
    shown = re.sub(r"/N(?=/|$)", f"/{N}", shown).replace("NUMBER", "00007")
    assert MADE[form] == shown


def test_no_other_file_spells_a_key_of_the_stores() -> None:
    """A key that is put together elsewhere is missed by who reads the table, and by a tenant's isolation."""
    roots = "|".join(sorted({form.split("/")[1] for form in MADE}))
    spelled = re.compile(rf"""["'](?:/(?:{roots})/|sync/up["'])""")
    wrong = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("src/kubeedge", "cloud/kubeedge_cloud")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "keys.py"
        for line in path.read_text().splitlines()
        if spelled.search(line)
    ]
    assert wrong == []
