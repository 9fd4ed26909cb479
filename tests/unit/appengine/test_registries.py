"""Pulls as they are at the edge: mirrors, certificates, credentials of the node, bad lines, compression, helpers that die, disks that are full."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import os
import signal
import ssl
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import registry_auth
from kubeedge.appengine.images import compression, credentials, documents, fetch
from kubeedge.appengine.images.archive import import_archive
from kubeedge.appengine.images.endpoints import RegistryMirrors
from kubeedge.appengine.images.names import parse
from kubeedge.appengine.images.parts import Part, sweep
from kubeedge.appengine.images.registry import Puller, PullSettings
from kubeedge.appengine.images.service import EmbeddedImages
from kubeedge.appengine.images.store import ImageStore
from kubeedge.appengine.runtime import mounts
from kubeedge.errors import Invalid, NotFound
from tests.kit.certs import TestAuthority
from tests.kit.layers import Image, digest, entry, layer, link
from tests.kit.registry_server import Registry, serving
from tests.kit.topology import until

LOWER, UPPER = layer(entry("a", b"lower")), layer(entry("a", b"upper"))
BIG = layer(entry("big", hashlib.shake_256(b"seed").digest(100_000)))

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # a puller's process ends; its sockets with it


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture
def registry() -> Registry:
    return Registry()


def pull(store: ImageStore, name: str, registries: RegistryMirrors | None = None, **settings: Any) -> list[str]:
    registries = registries or RegistryMirrors.of(())
    return Puller(store, PullSettings(registries=registries, pause=0.001, **settings)).pull(parse(name))


def content(store: ImageStore, name: str) -> list[str]:
    """What the files "a" of its layers say."""
    image = store.find(name)
    assert image is not None
    return [(path / "a").read_text() for path in image.layers]


def parts(store: ImageStore) -> list[int]:
    """Bytes of the blobs that are not whole."""
    return [p.stat().st_size for p in store.blobs.iterdir()]


def basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# -- where from ----------------------------------------------------------------------------------------------------------------


def test_a_mirror_is_asked_first_and_the_registry_when_it_lacks_something(store: ImageStore) -> None:
    mirror, own, image = Registry(), Registry(), Image(LOWER, UPPER)
    mirror.put("1", image)
    own.put("1", image)
    own.put("2", Image(UPPER))
    with serving(mirror) as near, serving(own) as far:
        registries = RegistryMirrors.of([{"registry": far, "mirrors": [f"{near}/cache/of"]}])
        pull(store, f"{far}/app:1", registries)
        assert content(store, f"{far}/app:1") == ["lower", "upper"] and not own.asked
        assert all(path.startswith("/v2/cache/of/app/") for path in mirror.asked)
        pull(store, f"{far}/app:2", registries)  # the mirror does not have it
        assert content(store, f"{far}/app:2") == ["upper"]
        store.remove(f"{far}/app:1", frozenset())
        mirror.blobs.clear()  # its manifest is there, its blobs are not
        pull(store, f"{far}/app:1", registries)
        assert content(store, f"{far}/app:1") == ["lower", "upper"]
        with pytest.raises(Invalid, match=f"app:3 does not exist in the registry {far}"):
            pull(store, f"{far}/app:3", registries)
    with serving(own) as far:
        pull(store, f"{far}/app:2", RegistryMirrors.of([{"registry": far, "mirrors": [near, "127.0.0.1:1"]}]))


@pytest.mark.parametrize("lie", [b"short", gzip.compress(UPPER), LOWER + b"long", bytes(len(LOWER))])
def test_a_mirror_that_lies_is_found_out_and_passed_over(store: ImageStore, lie: bytes) -> None:
    mirror, own, image = Registry(), Registry(), Image(LOWER, compress=False)
    own.put("1", image)
    mirror.put("1", image)
    mirror.blobs[digest(LOWER)] = lie
    with serving(mirror) as near, serving(own) as far:
        registries = RegistryMirrors.of([{"registry": far, "mirrors": [near]}])
        pull(store, f"{far}/app:1", registries)
        assert content(store, f"{far}/app:1") == ["lower"] and not parts(store)
        store.remove(f"{far}/app:1", frozenset())
        own.blobs[digest(LOWER)] = bytes(len(LOWER))
        with pytest.raises(Invalid):
            pull(store, f"{far}/app:1", registries)
    assert not store.names() and not parts(store) and not list(store.layers.iterdir())


def test_docker_io_may_have_a_mirror_and_names_stay_as_they_are() -> None:
    registries = RegistryMirrors.of([{"registry": "docker.io", "mirrors": ["m.test:5000/hub", "n.test"]}])
    found = registries.endpoints(parse("busybox:1"))
    assert [(e.host, e.repository) for e in found] == [
        ("m.test:5000", "hub/library/busybox"),
        ("n.test", "library/busybox"),
        ("registry-1.docker.io", "library/busybox"),
    ]
    assert found[-1].name == "docker.io"


def test_the_certificate_of_a_registry_is_checked_against_its_own_authority(
    store: ImageStore, registry: Registry, tmp_path: Path
) -> None:
    ours, others = TestAuthority(tmp_path, "ours"), TestAuthority(tmp_path, "others")
    issued = ours.issue("registry", hosts=["127.0.0.2"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    registry.put("1", Image(LOWER))
    with serving(registry, context, "127.0.0.2") as host:
        for ca in ("", str(others.ca), str(tmp_path / "none.crt")):
            with pytest.raises(Invalid, match="certificate"):
                pull(store, f"{host}/app:1", RegistryMirrors.of([{"registry": host, "ca": ca}]))
        assert not registry.asked
        pull(store, f"{host}/app:1", RegistryMirrors.of([{"registry": host, "ca": str(ours.ca)}]))
    assert content(store, f"{host}/app:1") == ["lower"]


@pytest.mark.parametrize(
    ("machine", "offered", "chosen"),
    [
        ("armv7l", ["v6", "v7", "v5"], "v7"),
        ("armv7l", ["v5", "v6"], "v6"),
        ("armv6l", ["v7", "v6"], "v6"),
        ("armv6l", ["v7"], None),
        ("armv7l", ["v8"], None),
        ("aarch64", ["", "v8"], "v8"),
        ("aarch64", [""], ""),
        ("x86_64", ["v3", "v2"], None),
        ("x86_64", ["v3", ""], ""),
    ],
)
def test_the_best_variant_that_a_machine_can_run_is_chosen(
    machine: str, offered: list[str], chosen: str | None
) -> None:
    architecture = {"armv7l": "arm", "armv6l": "arm", "aarch64": "arm64", "x86_64": "amd64"}[machine]
    manifests = [
        {"digest": v, "platform": {"os": "linux", "architecture": architecture, **({"variant": v} if v else {})}}
        for v in offered
    ] + [{"digest": "attestation", "platform": {"os": "unknown", "architecture": "unknown"}}]
    if chosen is None:
        with pytest.raises(Invalid, match="not made for linux/"):
            documents.choose(manifests, machine)
    else:
        assert documents.choose(manifests, machine)["digest"] == chosen


# -- credentials ---------------------------------------------------------------------------------------------------------------


def test_the_most_specific_credentials_come_first() -> None:
    document = {
        "auths": {
            "https://index.docker.io/v1/": {"auth": "hub"},
            "r.test": {"auth": "all"},
            "r.test/team": {"auth": "team"},
            "*.r.test": {"username": "u", "password": "p"},
            "bad": {},
            "worse": None,
        }
    }
    auth = registry_auth.credentials(document)
    assert registry_auth.matching(auth, "docker.io", "library/busybox") == ["hub"]
    assert registry_auth.matching(auth, "r.test", "team/app") == ["team", "all"]
    assert registry_auth.matching(auth, "r.test", "teams/app") == ["all"]
    assert registry_auth.matching(auth, "eu.r.test", "x") == [basic("u:p")]
    assert not registry_auth.matching(auth, "a.eu.r.test", "x") and not registry_auth.matching(auth, "r.test:5000", "x")
    for nonsense in (None, [], {"auths": 5}, {"auths": {"a": 5}}, 7):
        assert registry_auth.credentials(nonsense) == {}


def test_credentials_are_tried_one_after_the_other(store: ImageStore, registry: Registry) -> None:
    registry.put("1", Image(LOWER))
    registry.password = "pw"
    with serving(registry) as host:
        auth = {f"{host}/app": basic("me:old"), host: basic("me:pw")}
        for registry.basic in (False, True):
            pull(store, f"{host}/app:1", auth=auth)
            store.remove(f"{host}/app:1", frozenset())


@pytest.mark.parametrize(
    "challenge",
    [
        'Basic realm="reg", Bearer realm="{realm}",service="reg"',
        'Bearer realm="{realm}",service="reg",Basic realm="reg"',
        'Negotiate, BEARER Realm = "{realm}" , SERVICE=reg',
        "bearer realm={realm},service=reg",
        'Negotiate YWJj==, Bearer error="invalid_token",error_description="a \\"b\\", c=d",realm="{realm}"',
    ],
)
def test_a_challenge_is_found_among_others(store: ImageStore, registry: Registry, challenge: str) -> None:
    registry.put("1", Image(LOWER))
    registry.password, registry.challenge = "pw", challenge
    with serving(registry) as host:
        pull(store, f"{host}/app:1", auth={host: basic("me:pw")})
    assert registry.tokens == 1 and content(store, f"{host}/app:1") == ["lower"]


def test_a_token_service_may_redirect_and_another_host_gets_no_password(store: ImageStore, registry: Registry) -> None:
    registry.put("1", Image(LOWER))
    registry.password, registry.redirect_tokens = "pw", "/token/?scope=x"
    other = Registry()
    other.password = "pw"
    with serving(registry) as host, serving(other) as elsewhere:
        pull(store, f"{host}/app:1", auth={host: basic("me:pw")})
        assert content(store, f"{host}/app:1") == ["lower"]
        store.remove(f"{host}/app:1", frozenset())
        registry.redirect_tokens = f"http://{elsewhere}/token/"
        with pytest.raises(Invalid, match="wants other credentials"):
            pull(store, f"{host}/app:1", auth={host: basic("me:pw")})
    assert other.asked == ["/token/"] and other.tokens == 1


def test_the_node_has_credentials_of_its_own(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    registry.put("1", Image(LOWER))
    registry.password = "pw"
    with serving(registry) as host:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {host: {"auth": basic("me:pw")}}}))
        request = {"root": str(store.root), "pull": f"{host}/app:1"}
        assert "credentials" in fetch._answer(request)["error"]
        files = [str(tmp_path / "none.json"), str(config)]
        assert fetch._answer({**request, "dockerConfigs": files}) == {"names": [f"{host}/app:1"]}


PROVIDER = """#!{python}
import json, os, sys
request = json.load(sys.stdin)
assert request == {{"kind": "CredentialProviderRequest", "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "image": request["image"]}}
assert sys.argv[1:] == ["--team", "a b; $(c)"], sys.argv
print("secret", file=sys.stderr)
print(json.dumps({{"kind": "CredentialProviderResponse", "apiVersion": request["apiVersion"], "cacheKeyType": "Registry",
    "auth": {{request["image"].split("/")[0]: {{"username": "me", "password": os.environ["WORD"]}}}}}}))
"""


def providers(directory: Path, pattern: str, program: str = PROVIDER, name: str = "provider") -> dict[str, str]:
    """The part of a request."""
    (directory / "provider").write_text(program.format(python=sys.executable))
    (directory / "provider").chmod(0o755)
    entry = {
        "name": name,
        "matchImages": [pattern],
        "defaultCacheDuration": "1h",
        "apiVersion": credentials.API_VERSION,
        "args": ["--team", "a b; $(c)"],
        "env": [{"name": "WORD", "value": "pw"}],
    }
    config = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": [entry]}
    (directory / "providers.yaml").write_text(json.dumps(config))
    return {"config": str(directory / "providers.yaml"), "directory": str(directory)}


def test_a_credential_provider_is_asked_as_the_kubelet_asks(
    store: ImageStore, registry: Registry, tmp_path: Path
) -> None:
    registry.put("1", Image(LOWER))
    registry.password = "pw"
    with serving(registry) as host:
        request = {"root": str(store.root), "pull": f"{host}/app:1"}
        answer = fetch._answer({**request, "providers": providers(tmp_path, "other.test")})
        assert "wants other credentials" in answer["error"]
        pattern = f"*.*.*.*:{host.split(':')[1]}"
        assert fetch._answer({**request, "providers": providers(tmp_path, pattern)}) == {"names": [f"{host}/app:1"]}


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("#!/bin/sh\necho secret >&2; exit 3", "ended with status 3"),
        ("#!/bin/sh\necho '[]'", "no CredentialProviderResponse"),
        ("#!/bin/sh\necho secret", "no CredentialProviderResponse"),
        ("#!/nowhere", "cannot be run"),
    ],
)
def test_what_is_wrong_with_a_provider_is_said_without_its_secrets(tmp_path: Path, program: str, words: str) -> None:
    found = providers(tmp_path, "r.test", program)
    with pytest.raises(Invalid, match=words) as failure:
        credentials.of_providers(found["config"], found["directory"], parse("r.test/app:1"))
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize("name", ["../provider", "/bin/sh", "", ".."])
def test_a_provider_is_a_program_of_its_directory(tmp_path: Path, name: str) -> None:
    found = providers(tmp_path, "r.test", name=name)
    with pytest.raises(Invalid, match="not the name of a credential provider"):
        credentials.of_providers(found["config"], found["directory"], parse("r.test/app:1"))


# -- bad lines -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranges", [True, False])
def test_a_line_that_breaks_off_again_and_again_is_taken_up_again(
    store: ImageStore, registry: Registry, ranges: bool
) -> None:
    registry.put("1", Image(BIG, compress=False))
    registry.ranges = ranges
    registry.cut_after = 11_000 if ranges else len(BIG) - 1
    with serving(registry) as host:
        if ranges:
            pull(store, f"{host}/app:1")
            asked = [r for r in registry.ranges_asked if r]
            assert asked == [f"bytes={n}-" for n in range(11_000, len(BIG), 11_000)]
        else:  # each answer begins anew: the byte that is missing comes when the line is better
            with pytest.raises(Invalid, match=f"has {len(BIG) - 1} bytes of {len(BIG)}|1 bytes are missing"):
                pull(store, f"{host}/app:1")
            registry.cut_after = 0
            pull(store, f"{host}/app:1")
    assert store.find(f"{host}/app:1") and not parts(store)


def test_what_came_of_a_blob_stays_for_the_next_try(store: ImageStore, registry: Registry) -> None:
    registry.put("1", Image(BIG, compress=False))
    registry.cut_after, registry.range_error = 60_000, 1  # the second answer is of another range
    with serving(registry) as host:
        with pytest.raises(Invalid, match="another range"):
            pull(store, f"{host}/app:1")
        registry.range_error, registry.cut_after, registry.cut_blobs = 0, 0, True
        with pytest.raises(Invalid, match="are missing"):
            pull(store, f"{host}/app:1")
        registry.cut_blobs, registry.cut_after = False, 60_000
        pull(store, f"{host}/app:1")
    assert store.find(f"{host}/app:1") and not parts(store)


def test_a_part_that_was_damaged_is_fetched_anew(store: ImageStore, registry: Registry) -> None:
    """A power cut may leave zeros."""
    registry.put("1", Image(BIG, compress=False))
    store.part(digest(BIG)).write_bytes(bytes(60_000))
    with serving(registry) as host:
        pull(store, f"{host}/app:1")
        store.remove(f"{host}/app:1", frozenset())
        store.part(digest(BIG)).write_bytes(BIG + b"more")
        pull(store, f"{host}/app:1")
    assert store.find(f"{host}/app:1") and not parts(store)


def test_a_blob_that_is_longer_than_its_manifest_says_is_refused(store: ImageStore, registry: Registry) -> None:
    image = Image(BIG, compress=False)
    image.manifest["layers"][0]["size"] = 50_000  # type: ignore[index, call-overload]
    registry.put("1", image)
    with serving(registry) as host:
        with pytest.raises(Invalid, match="more than the 50000 bytes"):
            pull(store, f"{host}/app:1")
        for size in (-1, 2**50, "7", None, True):
            image.manifest["layers"][0]["size"] = size  # type: ignore[index, call-overload]
            registry.put("2", image)
            with pytest.raises(Invalid, match="has the size"):
                pull(store, f"{host}/app:2")
    assert not parts(store) and not store.names()


def test_layers_are_fetched_side_by_side_but_not_all_of_them(store: ImageStore, registry: Registry) -> None:
    layers = [layer(entry("a", hashlib.shake_256(bytes([n])).digest(50_000))) for n in range(7)]
    registry.put("1", Image(*layers, compress=False))
    registry.hold = threading.Event()

    def release() -> None:
        registry.sent.wait()
        try:
            until(lambda: registry.at_once == 3, what="three layers on their way at once")
        finally:
            assert registry.hold is not None
            registry.hold.set()

    with serving(registry) as host:
        thread = threading.Thread(target=release)
        thread.start()
        pull(store, f"{host}/app:1", parallel=3)
        thread.join()
    assert registry.most_at_once == 3 and store.find(f"{host}/app:1")


def test_a_layer_that_comes_twice_in_an_image_is_no_trouble(store: ImageStore, registry: Registry) -> None:
    registry.put("1", Image(LOWER, UPPER, LOWER))
    with serving(registry) as host:
        pull(store, f"{host}/app:1")
    assert content(store, f"{host}/app:1") == ["lower", "upper", "lower"] and not parts(store)


# -- compression ---------------------------------------------------------------------------------------------------------------


def zstd(data: bytes, *options: str) -> bytes:
    return subprocess.run(["zstd", "-c", *options], input=data, capture_output=True, check=True).stdout


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(BIG),
        b"".join(gzip.compress(BIG[n : n + 512]) for n in range(0, len(BIG), 512)) + gzip.compress(b"") + bytes(700),
        zstd(BIG),
        zstd(BIG, "-19"),
        zstd(BIG[:70_000]) + SKIPPABLE + zstd(BIG[70_000:]),
        SKIPPABLE + zstd(BIG),
        BIG,
    ],
    ids=["gzip", "estargz", "zstd", "zstd-19", "zstd:chunked", "pzstd", "plain"],
)
def test_a_layer_is_read_however_it_is_compressed(store: ImageStore, registry: Registry, packed: bytes) -> None:
    image = Image(BIG)
    image.manifest["layers"] = [{"mediaType": "x", "digest": image.add(packed), "size": len(packed)}]
    registry.put("1", image)
    with serving(registry) as host:
        pull(store, f"{host}/app:1")
        found = store.find(f"{host}/app:1")
    assert found and (found.layers[0] / "big").stat().st_size == 100_000


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (gzip.compress(BIG)[:-5], "in the middle of its gzip"),
        (gzip.compress(BIG) + b"x" * 100, "no gzip stream"),
        (zstd(BIG)[:-5], "in the middle of its zstd"),
        (zstd(BIG) + b"x" * 100, "no zstd stream"),
        (zstd(bytes(40_000_000), "--ultra", "-22", "--long=27"), "too much memory"),
    ],
)
def test_a_stream_that_is_no_stream_is_refused(tmp_path: Path, packed: bytes, words: str) -> None:
    (tmp_path / "x").write_bytes(packed)
    with open(tmp_path / "x", "rb") as file, pytest.raises(Invalid, match=words):
        stream = compression.uncompressed(file)
        while stream.read(65536):
            pass


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_bomb_expands_no_further_than_it_is_read(tmp_path: Path, pack: Any) -> None:
    (tmp_path / "x").write_bytes(pack(bytes(300_000_000)))
    with open(tmp_path / "x", "rb") as file:
        stream = compression.uncompressed(file)
        assert len(stream.read(1000)) <= 1000 and len(stream.read(10**9)) <= 1024 * 1024


# -- what ends in the middle ---------------------------------------------------------------------------------------------------


def test_a_helper_that_is_killed_costs_nothing_that_has_come(store: ImageStore, registry: Registry) -> None:
    registry.put("1", Image(LOWER, BIG, compress=False))
    registry.cut_after, registry.hold = 60_001, threading.Event()  # which keeps the last byte back
    with serving(registry) as host:
        request = json.dumps({"root": str(store.root), "pull": f"{host}/app:1"}).encode()
        helper = subprocess.Popen(
            [sys.executable, "-m", "kubeedge.appengine.images.fetch"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert helper.stdin is not None
        helper.stdin.write(request)
        helper.stdin.close()
        until(lambda: helper.poll() is not None or 60_000 in parts(store), what="what has come is kept")
        assert helper.poll() is None
        helper.send_signal(signal.SIGKILL)
        helper.wait()
        registry.hold.set()
        registry.hold, registry.cut_after = None, 0
        store.sweep()
        assert not list(store.layers.glob("new-*")) and not store.names() and 60_000 in parts(store)
        registry.ranges_asked.clear()
        pull(store, f"{host}/app:1")
        assert "bytes=60000-" in registry.ranges_asked
    assert store.find(f"{host}/app:1") and not parts(store)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounts.mount("tmpfs", disk, "tmpfs", 0, "size=4m,mode=700")
    try:
        yield disk
    finally:
        mounts.unmount(disk)


@pytest.mark.root
def test_a_disk_that_is_full_in_the_middle_is_as_empty_as_before(small_disk: Path, registry: Registry) -> None:
    store = ImageStore(small_disk / "images")
    free = store.free_bytes()
    registry.put("small", Image(LOWER))
    registry.put("large", Image(layer(entry("a", b"x"), entry("zeros", bytes(6_000_000)))))  # 6 kB as a blob
    registry.put("blob", Image(layer(entry("a", os.urandom(6_000_000))), compress=False))
    images = EmbeddedImages(store)

    async def attempt(name: str) -> str:
        return await images.pull(name, {})

    with serving(registry) as host:
        for tag in ("large", "blob"):
            with pytest.raises(Invalid, match="[Nn]o space left on device"):
                asyncio.run(attempt(f"{host}/app:{tag}"))
            assert not parts(store) and not list(store.layers.iterdir()) and store.names() == []
        assert free - store.free_bytes() < 100_000
        assert asyncio.run(attempt(f"{host}/app:small"))


def test_parts_that_nobody_holds_are_swept_by_their_age(store: ImageStore) -> None:
    old, new, held = (store.part(digest(text)) for text in (b"old", b"new", b"held"))
    for path in (old, new, held):
        path.write_bytes(b"x" * 10_000)
    os.utime(old, (1, 1))
    os.utime(held, (1, 1))
    part = Part.take(held, wait=False)
    assert part is not None and Part.take(held, wait=False) is None
    assert sweep(store.blobs, older_than=3600) > 0
    assert not old.exists() and new.exists() and held.exists()
    os.close(part.fd)
    sweep(store.blobs)
    assert not parts(store)


# -- the store -----------------------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_saved_image_is_the_same_image_on_another_node(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    layers = [
        layer(entry("a", b"1"), entry("d/x", b"x", mode=0o4755), entry("e/y", b"y"), link("d/l", "/a"), link("d/h", "a", tarfile.LNKTYPE)),
        layer(entry(".wh.a"), entry("e/.wh..wh..opq"), entry("e/z", b"z")),
    ]  # fmt: skip
    config = {"Cmd": ["sh", "-c", "x"], "Env": ["A=1"], "User": "7", "StopSignal": "SIGQUIT", "Volumes": {"/v": {}}}
    registry.put("1", Image(*layers, config=config))
    archive, other = tmp_path / "saved.tar", ImageStore(tmp_path / "other")
    with serving(registry) as host:
        name = f"{host}/app:1"
        images = EmbeddedImages(store)
        asyncio.run(images.pull(name, {}))
        asyncio.run(images.save(name, archive))
        with pytest.raises(NotFound):
            asyncio.run(images.save(f"{host}/app:2", archive))
    assert asyncio.run(EmbeddedImages(other).load(archive)) == [name]
    before, after = store.find(name), other.find(name)
    assert before and after and before.config == after.config
    for mine, theirs in zip(before.layers, after.layers, strict=True):
        assert tree(mine) == tree(theirs)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def tree(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        text = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        opaque = "trusted.overlay.opaque" in os.listxattr(path, follow_symlinks=False)
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_rdev, text, opaque)
    return found


def test_the_list_has_sizes_names_and_digests(store: ImageStore, registry: Registry) -> None:
    image = Image(BIG)
    registry.put("1", image)
    registry.put("2", image)
    with serving(registry) as host:
        images = EmbeddedImages(store, pinned=[f"{host}/app:2"])

        async def run() -> None:
            for tag in ("1", "2"):
                await images.pull(f"{host}/app:{tag}", {})
            (found,) = await images.list()
            assert found.names == (f"{host}/app:1", f"{host}/app:2") and 100_000 <= found.size < 120_000
            manifest = digest(registry.manifests["1"])
            assert found.digests == (f"{host}/app@{manifest}",) and found.pinned

        asyncio.run(run())


def test_prune_takes_what_belongs_to_no_image_and_no_container(store: ImageStore, tmp_path: Path) -> None:
    import_archive(store, Image(LOWER, UPPER).archive(tmp_path / "a.tar", name="a.io/a:1"))
    image = store.find("a.io/a:1")
    assert image
    refs = store.refs_file.read_text()
    store.part(digest(b"x")).write_bytes(b"x" * 5000)
    assert store.prune(frozenset()) >= 4096 and store.find("a.io/a:1") and not parts(store)
    store.refs_file.write_text("{}")  # as a pull that ended after its last layer, before its name
    assert store.prune(None) == 0 and all(p.is_dir() for p in image.layers)
    store.prune({image.layers[0].name})
    assert image.layers[0].is_dir() and not image.layers[1].exists()
    store.refs_file.write_text(refs)
    assert store.find("a.io/a:1") is None
    store.refs_file.write_text("{}")
    store.prune(frozenset())
    assert not list(store.layers.iterdir())


@pytest.mark.root
def test_a_full_disk_also_takes_the_layers_back_that_were_whole(small_disk: Path, registry: Registry) -> None:
    store = ImageStore(small_disk / "images")
    registry.put("1", Image(layer(entry("a", bytes(1_000_000))), layer(entry("b", bytes(6_000_000)))))
    with serving(registry) as host:
        with pytest.raises(Invalid, match="No space left on device"):
            asyncio.run(EmbeddedImages(store).pull(f"{host}/app:1", {}))
    assert not list(store.layers.iterdir()) and not parts(store)


@pytest.mark.root
def test_an_image_can_be_removed_from_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    store = ImageStore(small_disk / "images")
    import_archive(store, Image(BIG).archive(tmp_path / "a.tar", name="a.io/a:1"))
    import_archive(store, Image(LOWER).archive(tmp_path / "b.tar", name="b.io/b:1"))
    hog = os.open(small_disk / "hog", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space left"):
        while True:
            os.write(hog, bytes(4096))
    os.close(hog)
    store.remove("a.io/a:1", frozenset())
    assert store.names() == ["b.io/b:1"] and store.find("b.io/b:1") and store.free_bytes() >= 100_000
