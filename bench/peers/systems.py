"""How each system is set up. start(site) -> Addresses; everything it spawns is the system's own.

All encrypt (except `raw`), all join edge1 and edge2 through the cloud, all with ciphers that the processor has instructions for
where the system lets us choose.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.peers import newest
from bench.peers.debian import program
from bench.peers.site import CLOUD1, CLOUD2, EDGE1, EDGE2, Site
from tests.kit.topology import Host, until

ROOT = Path(__file__).parents[2]
NEWEST = ", newest"
PKI = ("edge1", "cloud", "edge2")


@dataclass(frozen=True)
class Addresses:
    edge1: str
    cloud: str
    edge2: str
    family: str = "-4"


def raw(site: Site) -> Addresses:
    """The kernel routes; no tunnel, no encryption."""
    site.edges[0].ip("route", "add", "10.11.2.0/24", "via", CLOUD1, "congctl", "cubic")
    site.edges[1].ip("route", "add", "10.11.1.0/24", "via", CLOUD2, "congctl", "cubic")
    return Addresses(EDGE1, CLOUD1, EDGE2)


def ours(site: Site, congestion: str = "") -> Addresses:
    """`congestion`: what the links are to use instead of their own choice."""
    relay = site.authority.issue("relay", uri="spiffe://kubeedge/cloud/cloud", hosts=[CLOUD1, CLOUD2])
    more = {"congestion": congestion} if congestion else {}
    _bus(site, site.cloud, role="relay", ca=relay.ca, cert=relay.cert, key=relay.key, **more)
    for n, (edge, cloud) in enumerate(zip(site.edges, (CLOUD1, CLOUD2), strict=True), 1):
        c = site.authority.issue(f"edge{n}", uri=f"spiffe://kubeedge/tenant/default/node/edge{n}")
        _bus(site, edge, role="edge", number=n, relays=[f"{cloud}:7010"], ca=c.ca, cert=c.cert, key=c.key, **more)
    return Addresses("100.64.0.1", "100.64.255.254", "100.64.0.2")


def _bus(site: Site, host: Host, **config: object) -> None:
    """tests/kit/bus_host: the production KubeBus and BusHub without stores. It ends with the host."""
    with open(site.directory / f"bus-{host.name}.log", "ab") as log:
        process = subprocess.Popen(
            host.command(sys.executable, "-m", "tests.kit.bus_host", json.dumps(config, default=str)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT,
        )  # fmt: skip
    assert process.stdout
    line = process.stdout.readline()
    if b"ready" not in line:
        raise RuntimeError(f"bus_host on {host.name} did not start: {line!r}")
    site.processes.append(process)
    host._processes.append(process)


def openvpn(transport: str) -> Callable[[Site], Addresses]:
    def start(site: Site) -> Addresses:
        common = "dev tun0\ndev-type tun\ntopology subnet\ncipher AES-128-GCM\ndata-ciphers AES-128-GCM\nverb 1\nkeepalive 10 60\npersist-tun\n"
        names = {h.name: site.authority.issue(h.name, hosts=[h.name]) for h in site.hosts}
        server = names["cloud"]
        tcp = transport == "tcp"
        conf = site.write(
            "openvpn-cloud.conf",
            f"{common}proto {'tcp-server' if tcp else 'udp'}\nmode server\ntls-server\nport 1194\ndh none\n"
            f"server 10.20.0.0 255.255.255.0\nclient-to-client\nca {server.ca}\ncert {server.cert}\nkey {server.key}\n"
            + ("tcp-nodelay\n" if tcp else "explicit-exit-notify 1\n"),
        )
        site.spawn(site.cloud, program("openvpn"), "--config", str(conf))
        found = []
        for n, (edge, cloud) in enumerate(zip(site.edges, (CLOUD1, CLOUD2), strict=True), 1):
            c = names[edge.name]
            conf = site.write(
                f"openvpn-edge{n}.conf",
                f"{common}client\nremote {cloud} 1194\nproto {'tcp-client' if tcp else 'udp'}\nnobind\n"
                f"ca {c.ca}\ncert {c.cert}\nkey {c.key}\nverify-x509-name cloud name\n",
            )
            site.spawn(edge, program("openvpn"), "--config", str(conf))
            found.append(_address(edge, "tun0"))
        return Addresses(found[0], "10.20.0.1", found[1])

    return start


def wireguard_go(site: Site, path: str = "") -> Addresses:
    keys = {}
    for host in site.hosts:
        private = site.tool(host, program("wg"), "genkey").strip()
        keys[host.name] = (private, site.tool(host, program("wg"), "pubkey", input=private).strip())
    address = {"edge1": "10.21.0.1", "cloud": "10.21.0.254", "edge2": "10.21.0.2"}
    for host in site.hosts:
        if host is site.cloud:
            peers = [(keys["edge1"][1], "10.21.0.1/32", ""), (keys["edge2"][1], "10.21.0.2/32", "")]
        else:
            end = CLOUD1 if host.name == "edge1" else CLOUD2
            peers = [(keys["cloud"][1], "10.21.0.0/24", f"Endpoint = {end}:51820\nPersistentKeepalive = 25\n")]
        conf = f"[Interface]\nPrivateKey = {keys[host.name][0]}\nListenPort = 51820\n"
        for public, allowed, more in peers:
            conf += f"[Peer]\nPublicKey = {public}\nAllowedIPs = {allowed}\n{more}"
        run = site.directory / f"wg-{host.name}"
        run.mkdir(exist_ok=True)
        host.run("mkdir", "-p", "/var/run/wireguard")
        host.run(
            "mount", "--bind", str(run), "/var/run/wireguard"
        )  # the control sockets of three hosts in one file system
        site.spawn(host, path or program("wireguard-go"), "--foreground", "wg0")
        until(lambda h=host: "wg0" in h.ip("-o", "link"), timeout=5, what="wg0")
        written = site.write(f"wg-{host.name}.conf", conf)
        until(lambda r=run: (r / "wg0.sock").exists(), timeout=5, what="wireguard-go's socket")
        site.tool(host, program("wg"), "setconf", "wg0", str(written))
        host.ip("addr", "add", f"{address[host.name]}/24", "dev", "wg0")
        host.ip("link", "set", "wg0", "mtu", "1420", "up")
    return Addresses(address["edge1"], address["cloud"], address["edge2"])


def tinc(site: Site) -> Addresses:
    address = {"edge1": "10.22.0.1", "cloud": "10.22.0.254", "edge2": "10.22.0.2"}
    base = site.directory / "tinc"
    publics = {}
    for host in site.hosts:
        d = base / host.name
        (d / "hosts").mkdir(parents=True)
        connect = "" if host is site.cloud else "ConnectTo = cloud\n"
        (d / "tinc.conf").write_text(
            f"Name = {host.name}\nMode = router\nInterface = tinc0\nDeviceType = tun\n{connect}"
        )
        up = d / "tinc-up"
        up.write_text(f"#!/sbin/ip -batch\naddr add {address[host.name]}/24 dev tinc0\nlink set tinc0 mtu 1400 up\n")
        up.chmod(0o700)
        (d / "hosts" / host.name).write_text("")
        site.tool(host, program("tincd"), "-c", str(d), "-K2048", input="\n\n")
        publics[host.name] = (d / "hosts" / host.name).read_text()
    for host in site.hosts:
        for other, public in publics.items():
            end = ""
            if other == "cloud":
                end = f"Address = {CLOUD1 if host.name == 'edge1' else CLOUD2}\n"
            text = f"{end}Subnet = {address[other]}/32\nCipher = aes-128-cbc\nDigest = sha256\nTCPOnly = yes\n{public}"
            (base / host.name / "hosts" / other).write_text(text)
    for host in (site.cloud, *site.edges):
        d = base / host.name
        site.spawn(host, program("tincd"), "-c", str(d), "-D", f"--pidfile={d}/pid", "-d1")
    for edge in site.edges:
        until(lambda e=edge: address[e.name] in e.ip("-o", "addr"), timeout=10, what="tinc0")
    return Addresses(address["edge1"], address["cloud"], address["edge2"])


def nebula(site: Site) -> Addresses:
    address = {"edge1": "10.23.0.1", "cloud": "10.23.0.254", "edge2": "10.23.0.2"}
    d = site.directory / "nebula"
    d.mkdir()
    cert = program("nebula-cert")
    site.tool(site.cloud, cert, "ca", "-name", "ca", "-out-crt", str(d / "ca.crt"), "-out-key", str(d / "ca.key"))
    for host in site.hosts:
        site.tool(
            site.cloud, cert, "sign", "-name", host.name, "-ip", f"{address[host.name]}/24",
            "-ca-crt", str(d / "ca.crt"), "-ca-key", str(d / "ca.key"),
            "-out-crt", str(d / f"{host.name}.crt"), "-out-key", str(d / f"{host.name}.key"),
        )  # fmt: skip
        cloud = host is site.cloud
        end = {"edge1": CLOUD1, "edge2": CLOUD2}.get(host.name, "")
        anything = [{"port": "any", "proto": "any", "host": "any"}]
        conf = {
            "pki": {"ca": str(d / "ca.crt"), "cert": str(d / f"{host.name}.crt"), "key": str(d / f"{host.name}.key")},
            "static_host_map": {} if cloud else {address["cloud"]: [f"{end}:4242"]},
            "lighthouse": {"am_lighthouse": cloud, "interval": 60, "hosts": [] if cloud else [address["cloud"]]},
            "listen": {"host": "0.0.0.0", "port": 4242},
            "punchy": {"punch": True},
            "cipher": "aes",
            "relay": {"relays": [] if cloud else [address["cloud"]], "am_relay": cloud, "use_relays": True},
            "tun": {"dev": "neb0", "mtu": 1300},
            "logging": {"level": "warning", "format": "text"},
            "firewall": {"outbound": anything, "inbound": anything},
        }
        site.spawn(host, program("nebula"), "-config", str(site.write(f"nebula-{host.name}.yml", json.dumps(conf))))
    return Addresses(address["edge1"], address["cloud"], address["edge2"])


def yggdrasil(site: Site, path: str = "", scheme: str = "tls") -> Addresses:
    """`scheme`: what its own encryption, end to end, is carried by."""
    path = path or program("yggdrasil")
    found = {}
    for host in (site.cloud, *site.edges):
        conf = json.loads(site.tool(host, path, "-genconf", "-json"))
        conf |= {"IfName": "ygg0", "IfMTU": 65535, "MulticastInterfaces": [], "AdminListen": "none"}
        if host is site.cloud:
            conf["Listen"] = [f"{scheme}://0.0.0.0:4243"]
        else:
            conf["Peers"] = [f"{scheme}://{CLOUD1 if host.name == 'edge1' else CLOUD2}:4243"]
        written = site.write(f"yggdrasil-{host.name}.json", json.dumps(conf))
        host.run("tee", "/proc/sys/net/ipv6/conf/all/disable_ipv6", input="0")
        site.spawn(host, path, "-useconffile", str(written))
        found[host.name] = _address(host, "ygg0", six=True)
    return Addresses(found["edge1"], found["cloud"], found["edge2"], "-6")


def easytier(site: Site) -> Addresses:
    """Over TCP, with its default cipher (AES-128-GCM). No STUN: no address outside of the bench is asked anything."""
    address = {"edge1": "10.26.0.1", "cloud": "10.26.0.254", "edge2": "10.26.0.2"}
    for host in (site.cloud, *site.edges):
        cloud = host is site.cloud
        config = {
            "instance_name": host.name, "hostname": host.name, "ipv4": f"{address[host.name]}/24",
            "network_identity": {"network_name": "bench", "network_secret": "bench"},
            "listeners": ["tcp://0.0.0.0:11010"] if cloud else [],
            "peer": [] if cloud else [{"uri": f"tcp://{CLOUD1 if host.name == 'edge1' else CLOUD2}:11010"}],
            "stun_servers": [], "tcp_stun_servers": [], "stun_servers_v6": [],
            "flags": {"dev_name": "et0", "enable_ipv6": False, "disable_upnp": True, "bind_device": False},
        }  # fmt: skip
        site.spawn(host, "env", f"PYTHONPATH={newest.easytier()}", sys.executable, "-c", _EASYTIER, json.dumps(config))
        until(lambda h=host: "et0" in h.ip("-o", "link"), timeout=20, what="et0")
    return Addresses(address["edge1"], address["cloud"], address["edge2"])


_EASYTIER = """
import json, sys
from easytier_pyo3 import Node
node = Node(json.loads(sys.argv[1]))
node.start()
node.wait()
"""


def tailscale(site: Site, *, relay: bool) -> Addresses:
    """Control and DERP of Tailscale's own tests in the cloud. `relay`: the cloud's node relays for its peers over UDP; without it DERP does,
    over TCP. The edges cannot reach each other, and talk to the cloud's node directly in both."""
    edge2, cloud = site.edges[1], site.cloud
    edge2.ip("route", "add", f"{CLOUD1}/32", "via", CLOUD2, "congctl", "cubic")
    site.spawn(cloud, newest.program("tailscale-control"), CLOUD1, "true" if relay else "false")
    until(lambda: ":8080" in cloud.run("ss", "-Htln"), timeout=10, what="the control server")
    found = {}
    for host in (cloud, *site.edges):
        where = site.directory / f"tailscale-{host.name}"
        where.mkdir()
        said, control = f"--socket={where}/sock", f"--login-server=http://{CLOUD1}:8080"
        # --no-logs-no-support: it would send its log to its makers
        site.spawn(
            host, newest.program("tailscaled"), "--tun=ts0", "--state=mem:", f"--statedir={where}", said, "--no-logs-no-support"
        )  # fmt: skip
        until((where / "sock").exists, timeout=10, what="tailscaled's socket")
        up = ("up", control, f"--hostname={host.name}", "--accept-dns=false", "--netfilter-mode=off", "--timeout=30s")
        site.tool(host, newest.program("tailscale"), said, *up)
        found[host.name] = _address(host, "ts0")
    if relay:
        said = f"--socket={site.directory}/tailscale-cloud/sock"
        site.tool(cloud, newest.program("tailscale"), said, "set", "--relay-server-port=40000")
        edge = site.directory / "tailscale-edge1/sock"
        until(
            lambda: "via peer-relay" in site.edges[0].run(
                newest.program("tailscale"), f"--socket={edge}", "ping", "--c=1", "--until-direct=false", "--timeout=2s", found["edge2"], check=False
            ),
            timeout=60, what="the edges meet at the cloud's relay",
        )  # fmt: skip
    return Addresses(found["edge1"], found["cloud"], found["edge2"])


def fastd(site: Site) -> Addresses:
    address = {"edge1": "10.24.0.1", "cloud": "10.24.0.254", "edge2": "10.24.0.2"}
    keys = {}
    for host in site.hosts:
        out = site.tool(host, program("fastd"), "--generate-key", "--machine-readable").strip()
        keys[host.name] = (out, site.tool(host, program("fastd"), "--machine-readable", "--show-key", "--config", "-",
                                          input=f'secret "{out}";\n').strip())  # fmt: skip
    for host in (site.cloud, *site.edges):
        cloud = host is site.cloud
        conf = (
            f'secret "{keys[host.name][0]}";\nmode tap;\ninterface "fastd0";\nmethod "aes128-ctr+umac";\nmtu 1400;\n'
            f"log level warn;\nforward {'yes' if cloud else 'no'};\n"
        )
        if cloud:
            conf += "bind any:10000;\n"
            peers = {"edge1": "", "edge2": ""}
        else:
            peers = {"cloud": f"remote {CLOUD1 if host.name == 'edge1' else CLOUD2}:10000;"}
        for name, remote in peers.items():
            conf += f'peer "{name}" {{ key "{keys[name][1]}"; {remote} }}\n'
        site.spawn(host, program("fastd"), "--config", str(site.write(f"fastd-{host.name}.conf", conf)))
        until(lambda h=host: "fastd0" in h.ip("-o", "link"), timeout=5, what="fastd0")
        host.ip("addr", "add", f"{address[host.name]}/24", "dev", "fastd0")
        host.ip("link", "set", "fastd0", "up")
    return Addresses(address["edge1"], address["cloud"], address["edge2"])


def ocserv(site: Site) -> Addresses:
    """TLS only (no DTLS); the kernel of the cloud forwards between the clients."""
    c = site.authority.issue("ocserv", hosts=[CLOUD1, CLOUD2])
    passwd = site.directory / "ocpasswd"
    site.tool(site.cloud, program("ocpasswd"), "-c", str(passwd), "user", input="secret\nsecret\n")
    conf = site.write(
        "ocserv.conf",
        f'auth = "plain[passwd={passwd}]"\ntcp-port = 4443\nrun-as-user = root\nrun-as-group = root\n'
        f"socket-file = {site.directory}/oc.sock\nserver-cert = {c.cert}\nserver-key = {c.key}\nca-cert = {c.ca}\n"
        "isolate-workers = false\nmax-clients = 8\nmax-same-clients = 8\nkeepalive = 300\ndpd = 300\ndevice = ocs\n"
        f"ipv4-network = 10.25.0.0/24\nroute = 10.25.0.0/24\npid-file = {site.directory}/oc.pid\nmtu = 1400\n"
        "try-mtu-discovery = false\npredictable-ips = false\ncisco-client-compat = false\n"
        'tls-priorities = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM"\n',
    )
    site.spawn(site.cloud, program("ocserv"), "-f", "-c", str(conf))
    until(lambda: ":4443" in site.cloud.run("ss", "-Htln"), timeout=10, what="ocserv")
    script = site.write(
        "vpnc",
        "#!/usr/bin/python3\nimport os, subprocess\nif os.environ['reason'] == 'connect':\n"
        "    device, address = os.environ['TUNDEV'], os.environ['INTERNAL_IP4_ADDRESS']\n"
        "    for line in (f'link set {device} mtu ' + os.environ['INTERNAL_IP4_MTU'] + ' up', f'addr add {address}/32 dev {device}',\n"
        "                 f'route add 10.25.0.0/24 dev {device}'):\n"
        "        subprocess.run(['ip', *line.split()], check=True)\n", 0o700,
    )  # fmt: skip
    found = []
    for edge, cloud in zip(site.edges, (CLOUD1, CLOUD2), strict=True):
        secret = site.write("oc-secret", "secret\n")
        with open(secret, "rb") as stdin:
            process = subprocess.Popen(
                edge.command(program("openconnect"), "--protocol=anyconnect", "--no-dtls", "--user=user", "--passwd-on-stdin",
                             "--cafile", str(c.ca), "--interface=oc0", "--script", str(script), f"{cloud}:4443"),
                stdin=stdin, stdout=subprocess.DEVNULL, stderr=open(site.directory / f"openconnect-{edge.name}.log", "ab"),
                env={**os.environ, "LD_LIBRARY_PATH": _libraries()},
            )  # fmt: skip
        site.processes.append(process)
        edge._processes.append(process)
        found.append(_address(edge, "oc0"))
    return Addresses(found[0], "10.25.0.1", found[1])


def _libraries() -> str:
    from bench.peers.debian import LIBRARIES

    return LIBRARIES


def _address(host: Host, device: str, *, six: bool = False) -> str:
    """The address that a device was given by its system."""

    def look() -> str:
        out = host.run("ip", "-o", "-6" if six else "-4", "addr", "show", "dev", device, check=False)
        for line in out.splitlines():
            words = line.split()
            address = words[words.index("inet6" if six else "inet") + 1].split("/")[0]
            if not address.startswith("fe80"):
                return address
        return ""

    until(lambda: bool(look()), timeout=20, what=f"an address on {device} of {host.name}")
    return look()


SYSTEMS: dict[str, Callable[[Site], Addresses]] = {
    "ours": ours,
    "raw": raw,
    "openvpn-tcp": openvpn("tcp"),
    "openvpn-udp": openvpn("udp"),
    "wireguard-go": wireguard_go,
    "tinc": tinc,
    "nebula": nebula,
    "yggdrasil": yggdrasil,
    "fastd": fastd,
    "ocserv": ocserv,
    f"yggdrasil{NEWEST}": lambda site: yggdrasil(site, newest.program("yggdrasil"), "tcp"),
    f"wireguard-go{NEWEST}": lambda site: wireguard_go(site, newest.program("wireguard-go")),
    f"easytier{NEWEST}": easytier,
    f"tailscale-derp{NEWEST}": lambda site: tailscale(site, relay=False),
    f"tailscale-relay{NEWEST}": lambda site: tailscale(site, relay=True),
}
# What encrypts between the nodes, so that the machine in the middle cannot read. Ours and the others decrypt and encrypt again there,
# as these are set up; EasyTier encrypts once, with a key that all nodes of a network have.
END_TO_END = ("nebula", "yggdrasil", f"yggdrasil{NEWEST}", f"tailscale-derp{NEWEST}", f"tailscale-relay{NEWEST}")
