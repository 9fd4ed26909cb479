from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.config import cloud, edge, load
from kubeedge.errors import Invalid

HEAD = "apiVersion: edge.kubeedge.io/v1alpha1\nkind: EdgeCore\n"
CLOUD_HEAD = "apiVersion: cloud.kubeedge.io/v1alpha1\nkind: CloudCore\n"


def edge_of(text: str) -> edge.EdgeConfig:
    return load.load_text(edge.EdgeConfig, HEAD + text, api_version=edge.API_VERSION, kind=edge.KIND, source="f.yaml")


def cloud_of(text: str) -> cloud.CloudConfig:
    return load.load_text(
        cloud.CloudConfig, CLOUD_HEAD + text, api_version=cloud.API_VERSION, kind=cloud.KIND, source="f.yaml"
    )


def test_an_empty_file_is_the_default():
    assert edge_of("") == edge.EdgeConfig()
    assert cloud_of("") == cloud.CloudConfig()
    assert edge_of("modules:\n  hub:\n") == edge.EdgeConfig()


def test_the_printed_default_is_read_back_as_the_default_and_explains_every_key():
    for module, cls in ((edge, edge.EdgeConfig), (cloud, cloud.CloudConfig)):
        text = module.default_yaml()
        assert load.load_text(cls, text, api_version=module.API_VERSION, kind=module.KIND) == cls()
        lines = text.splitlines()
        for above, line in zip(lines, lines[1:], strict=False):
            if line.rstrip().endswith(":") or line.lstrip().startswith(("#", "-", "apiVersion", "kind")):
                continue
            assert above.lstrip().startswith("#"), f"no reason above {line!r}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modules: {hubb: {}}", "f.yaml: modules.hubb: unknown key; did you mean modules.hub?"),
        ("modul: {}", "f.yaml: modul: unknown key; did you mean modules?"),
        ("modules: {hub: {zzz: 1}}", "modules.hub.zzz: unknown key; known here: enable, keepalive"),
        ("modules: {hub: {1: 2}}", "modules.hub.1: unknown key"),
        ("modules: {hub: {enable: maybe}}", "modules.hub.enable: text ('maybe') instead of true or false"),
        ("modules: {hub: {enable: 1}}", "modules.hub.enable: a number (1) instead of true or false"),
        ("modules: {hub: {keepalive: 20s}}", "modules.hub.keepalive: text ('20s') instead of a number"),
        ("modules: {hub: {keepalive: true}}", "modules.hub.keepalive: true or false (True) instead of a number"),
        ("modules: {hub: {keepalive: 0}}", "modules.hub.keepalive: 0.0; it must be from 1 to 3600"),
        ("modules: {hub: {keepalive: .inf}}", "modules.hub.keepalive: inf is not a number that can be used"),
        ("modules: {hub: {keepalive: .nan}}", "modules.hub.keepalive: nan is not a number that can be used"),
        ("modules: {hub: 7}", "modules.hub: a number (7) instead of a mapping"),
        ("modules: {kubebus: {mtu: 100}}", "modules.kubebus.mtu: 100; it must be from 1280 to 65535"),
        ("modules: {kubebus: {mtu: 1500.5}}", "modules.kubebus.mtu: a number (1500.5) instead of a whole number"),
        ("modules: {kubebus: {tun: '../kb0'}}", "modules.kubebus.tun: '../kb0' is not the name of a network interface"),
        (
            "modules: {kubebus: {overlayRoutes: 10.244.0.0/16}}",
            "overlayRoutes: text ('10.244.0.0/16') instead of a list",
        ),
        ("modules: {kubebus: {overlayRoutes: [10.244.0.1/16]}}", "overlayRoutes[0]: '10.244.0.1/16' is not a network"),
        ("modules: {kubebus: {congestion: BBR2}}", "congestion: 'BBR2' is not the name of a congestion control"),
        ("modules: {kubebus: {overlayRoutes: [10.0.0.0/8, 3]}}", "overlayRoutes[1]: a number (3) instead of text"),
        ("modules: {webservices: {listen: '10080'}}", "modules.publishing.listen: '10080' is not HOST:PORT"),
        (
            "modules: {mesh: {gateways: {address: 0.0.0.0}}}",
            "modules.mesh.gateways.address: '0.0.0.0' is not the address of one machine",
        ),
        (
            "modules: {mesh: {gateways: {addresses: [192.168.1.5/24]}}}",
            "modules.mesh.gateways.addresses[0]: '192.168.1.5/24' is not an IP address",
        ),
        (
            "modules: {devices: {serviceBus: '0.0.0.0:9060'}}",
            "modules.devices.serviceBus: '0.0.0.0:9060' must be a loopback address: 127.0.0.1:PORT",
        ),
        ("modules: {appengine: {cgroupPrefix: '..'}}", "cgroupPrefix: '..' is not the name of a cgroup"),
        ("paths: {state: var/lib}", "paths.state: 'var/lib' is not an absolute path"),
        ("paths: {state: null}", "paths.state: nothing instead of a path"),
        ("logging: {level: loud}", "logging.level: 'loud' instead of one of debug, info, warning, error"),
        ("logging: {level: [info]}", "logging.level: ['info'] instead of one of"),
        ("logging: {level: info}\nlogging: {level: debug}", "line 4: 'logging' is here a second time"),
        ("paths: &a {}\nmodules: *a", "line 4: YAML aliases are not allowed"),
        ("paths: [", "f.yaml is not YAML: "),
        ("--- {}\n--- {}", "f.yaml is not YAML: "),
        ("paths: !!python/object/apply:os.system [id]", "f.yaml is not YAML: "),
        ("paths: {state: " + "9" * 5000 + "}", "f.yaml has a value that cannot be"),
        ("paths: {state: 2026-02-31}", "f.yaml has a value that cannot be"),
        ("paths: " + "[" * 5000 + "]" * 5000, "f.yaml is nested too deeply"),
    ],
)
def test_errors_name_the_position_and_what_would_be_right(text, message):
    with pytest.raises(Invalid) as error:
        edge_of(text)
    assert message in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("text", ["10.0.0.0/8", "fd00:10:244::1/48"])
@pytest.mark.parametrize("name", ["podsIpv6", "servicesIpv6", "overlayIpv6"])
def test_a_network_that_is_not_of_ipv6_is_named_with_its_setting(name: str, text: str) -> None:
    message = f"addresses.{name}: '{text}' is not an IPv6 network, like fd00:10:244::/48"
    with pytest.raises(Invalid, match=message):
        cloud_of(f"addresses: {{{name}: '{text}'}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: CloudCore", "kind: 'CloudCore' instead of 'EdgeCore'"),
        ("apiVersion: v1\nkind: EdgeCore", "apiVersion: 'v1' instead of 'edge.kubeedge.io/v1alpha1'"),
        ("- 1\n- 2", "holds a list ([1, 2]) instead of a mapping"),
        ("word", "holds text ('word') instead of a mapping"),
    ],
)
def test_another_kind_of_document_is_refused(text, message):
    with pytest.raises(Invalid) as error:
        load.load_text(edge.EdgeConfig, text, api_version=edge.API_VERSION, kind=edge.KIND)
    assert message in str(error.value)


def test_a_file_that_names_one_key_of_a_section_keeps_the_defaults_of_the_others():
    config = cloud_of(
        "listeners: {hub: {enable: false}, api: {address: 127.0.0.1}}\nadvertise: [203.0.113.2, cloud.example]"
    )
    assert config.listeners.hub == cloud.Listener(port=10000, enable=False)
    assert config.listeners.api == cloud.Listener(port=6443, address="127.0.0.1")
    assert config.advertise == ("203.0.113.2", "cloud.example")


@pytest.mark.parametrize("host", ["203.0.113.300", "bad host", "", "-x.example", "a..b"])
def test_what_cannot_be_in_a_certificate_is_not_advertised(host):
    with pytest.raises(Invalid, match="advertise"):
        cloud_of(f"advertise: ['{host}']")


def test_missing_and_unreadable_files_are_named(tmp_path: Path):
    with pytest.raises(Invalid, match=r"kubeedge\.yaml does not exist"):
        edge.load(tmp_path / "kubeedge.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Invalid, match="cannot read .*binary"):
        edge.load(tmp_path / "binary")
    (tmp_path / "huge").write_bytes(b"#" * (load.MAX_FILE + 1))
    with pytest.raises(Invalid, match="too long"):
        edge.load(tmp_path / "huge")
    with pytest.raises(Invalid, match="cannot read"):
        edge.load(tmp_path)


keys = st.sampled_from(
    ["modules", "hub", "enable", "keepalive", "paths", "state", "logging", "level", "x", "tun", "mtu"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
trees = st.recursive(scalars, lambda t: st.lists(t, max_size=3) | st.dictionaries(keys, t, max_size=3), max_leaves=12)


@given(st.dictionaries(keys, trees, max_size=4))
def test_any_tree_is_a_configuration_or_invalid_with_the_position(tree):
    try:
        config = load.build(edge.EdgeConfig, tree)
    except Invalid as exc:
        assert exc.path.split(".")[0].split("[")[0] in {str(k)[:80] for k in tree}
    else:
        assert isinstance(config.modules.hub.enable, bool)
        assert isinstance(config.modules.hub.keepalive, float) and math.isfinite(config.modules.hub.keepalive)
        assert isinstance(config.paths.state, Path)


words = st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029\ufeff"), min_size=1, max_size=12)


@given(
    name=words,
    level=st.sampled_from(["debug", "error"]),
    keepalive=st.floats(1, 3600),
    dirs=st.lists(words, max_size=3),
)
def test_what_is_dumped_is_read_back(name, level, keepalive, dirs):
    base = edge.EdgeConfig()
    modules = dataclasses.replace(
        base.modules,
        hub=edge.HubConfig(keepalive=keepalive),
        appengine=edge.AppEngineConfig(cni_bin_dirs=tuple(dirs)),
    )
    config = edge.EdgeConfig(
        paths=edge.Paths(state=Path("/" + name)), modules=modules, logging=edge.Logging(level=level)
    )
    text = edge.default_yaml(config)
    assert yaml.safe_load(text)["modules"]["appengine"]["cniBinDirs"] == dirs
    assert load.load_text(edge.EdgeConfig, text, api_version=edge.API_VERSION, kind=edge.KIND) == config


def test_a_key_may_be_true_or_a_mapping():
    assert cloud_of("publishing: {tls: true}").publishing.tls is True
    own = cloud_of("publishing: {tls: {certFile: /a.crt, keyFile: /a.key}}").publishing.tls
    assert own == cloud.PublicTls(cert_file=Path("/a.crt"), key_file=Path("/a.key"))
    for text, message in (
        ("publishing: {tls: yes please}", "publishing.tls: text ('yes please') instead of true or false"),
        ("publishing: {tls: 1}", "publishing.tls: a number (1) instead of true or false"),
        ("publishing: {tls: {certFile: /a.crt}}", "publishing.tls.keyFile: required"),
        (
            "publishing: {tls: {certFile: a.crt, keyFile: /a}}",
            "publishing.tls.certFile: 'a.crt' is not an absolute path",
        ),
        ("publishing: {services: ['Big=h:1']}", "publishing.services[0]: 'Big=h:1' is not an RFC 1123 label"),
        ("publishing: {services: ['/a=h:1']}", "publishing.services[0]: '/a=h:1' is not NAME=HOST:PORT"),
        ("publishing: {services: [a]}", "publishing.services[0]: 'a' is not NAME=HOST:PORT"),
        ("publishing: {services: [t/a=h]}", "publishing.services[0]: 't/a=h' is not HOST:PORT"),
    ):
        with pytest.raises(Invalid) as error:
            cloud_of(text)
        assert message in str(error.value)


def test_what_may_be_a_mapping_is_printed_as_one():
    own = cloud.PublicTls(cert_file=Path("/a.crt"), key_file=Path("/a.key"))
    config = cloud.CloudConfig(publishing=cloud.PublishingConfig(tls=own, services=("red/api=127.0.0.1:5000",)))
    text = cloud.default_yaml(config)
    assert load.load_text(cloud.CloudConfig, text, api_version=cloud.API_VERSION, kind=cloud.KIND) == config


@load.renamed({"grace": "nodeGrace", "nodeIP": "address"})
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    node_grace: float = load.setting(10.0, "seconds", low=0, high=60)
    address: str = load.setting("", "of the node")


def renamed_of(text: str) -> Renamed:
    return load.load_text(Renamed, text, api_version="v1", kind="Test")


def test_a_renamed_key_is_read_with_a_warning_that_names_the_new_one(caplog: pytest.LogCaptureFixture):
    assert renamed_of("nodeGrace: 3") == Renamed(node_grace=3.0)
    assert not caplog.records
    assert renamed_of("{grace: 5, nodeIP: 10.0.0.1}") == Renamed(node_grace=5.0, address="10.0.0.1")
    assert [r.getMessage() for r in caplog.records] == [
        "grace is deprecated; use nodeGrace instead",
        "nodeIP is deprecated; use address instead",
    ]


def test_a_renamed_key_is_checked_as_the_new_one_and_never_beside_it():
    for text, message in (
        ("grace: 61", "nodeGrace: 61.0; it must be from 0 to 60"),
        (
            "{grace: 1, nodeGrace: 2}",
            "grace: is deprecated, and nodeGrace, which replaces it, is set too; remove this one",
        ),
    ):
        with pytest.raises(Invalid) as error:
            renamed_of(text)
        assert message in str(error.value)
