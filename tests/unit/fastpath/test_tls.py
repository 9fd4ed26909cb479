"""The transport of links by itself, in C under the sanitizers: links of one thread share memory, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.fuzz.targets import FASTPATH, SANITIZERS
from tests.kit.certs import TestAuthority


def test_links_that_share_memory_leave_nothing_in_it(tmp_path: Path) -> None:
    """Also after a peer has asked for new keys and gone on sending."""
    program = tmp_path / "tls"
    subprocess.run(
        ["gcc", "-fsanitize=address,undefined", "-std=gnu11", "-Wall", *SANITIZERS, f"-I{FASTPATH}",
         str(Path(__file__).with_name("tls.c")), *(str(FASTPATH / "link" / f"{name}.c") for name in ("tls", "credentials", "tcp_path", "transport", "buffer")),
         "-o", str(program), "-lssl", "-lcrypto"],
        check=True,
    )  # fmt: skip
    authority = TestAuthority(tmp_path)
    ours = authority.issue("relay", uri="spiffe://kubeedge/cloud/relay", hosts=["relay"])
    peer = authority.issue("n1", uri="spiffe://kubeedge/tenant/t/node/n1")
    files = [str(path) for path in (ours.ca, ours.cert, ours.key, peer.cert, peer.key)]
    done = subprocess.run([str(program), *files], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr[-2000:]
