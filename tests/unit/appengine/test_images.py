"""Images: names, what layers may do, archives, registries."""

from __future__ import annotations

import asyncio
import base64
import gzip
import http.server
import json
import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.images import fetch
from kubeedge.appengine.images.archive import import_archive
from kubeedge.appengine.images.endpoints import RegistryMirrors
from kubeedge.appengine.images.names import parse
from kubeedge.appengine.images.registry import Puller, PullSettings
from kubeedge.appengine.images.service import EmbeddedImages
from kubeedge.appengine.images.store import ImageStore
from kubeedge.appengine.pulls import ImagePulls
from kubeedge.errors import Invalid
from tests.kit.layers import Image, digest, directory, entry, layer, link
from tests.kit.registry_server import Registry, serving

# -- names ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("127.0.0.1:5000/lab/app:2", "127.0.0.1:5000/lab/app:2"),
        ("ghcr.io/a/b/c:x", "ghcr.io/a/b/c:x"),
        ("app@sha256:" + "a" * 64, "docker.io/library/app@sha256:" + "a" * 64),
        ("app:1@sha256:" + "a" * 64, "docker.io/library/app@sha256:" + "a" * 64),
    ],
)
def test_short_names_mean_what_docker_means(text: str, full: str) -> None:
    assert str(parse(text)) == full
    assert str(parse(full)) == full


@pytest.mark.parametrize(
    "text",
    ["", "UPPER", "a//b", "../../etc", "a:", "a@sha256:12", "a b", "-a", "reg.io/", "a:b:c", "h.io/x/../y", "a\n"],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse(text)


# -- archives ------------------------------------------------------------------------------------------------------------


LOWER = layer(entry("a", b"lower"), entry("b", b"lower"))
UPPER = layer(entry("a", b"upper"))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def left_over(store: ImageStore) -> list[str]:
    return [p.name for p in store.layers.glob("new-*")]


@pytest.mark.parametrize("compress", [True, False])
def test_an_archive_brings_an_image_under_its_names(store: ImageStore, tmp_path: Path, compress: bool) -> None:
    config = {
        "Entrypoint": ["/init"],
        "Cmd": ["x"],
        "Env": ["A=1"],
        "WorkingDir": "/w",
        "User": "7",
        "StopSignal": "SIGQUIT",
    }
    archive = Image(LOWER, UPPER, compress=compress, config=config).archive(
        tmp_path / "i.tar", name="docker.io/library/i:1"
    )
    assert import_archive(store, archive, ["other:2"]) == ["docker.io/library/i:1", "docker.io/library/other:2"]
    image = store.find("i:1")
    assert image is not None and image.id.startswith("sha256:")
    assert [(p / "a").read_bytes() for p in image.layers] == [b"lower", b"upper"]
    c = image.config
    assert (c.entrypoint, c.command, c.env, c.working_dir, c.user) == (("/init",), ("x",), ("A=1",), "/w", "7")
    assert c.stop_signal == "QUIT"
    assert store.find("i:2") is None and store.names() == ["docker.io/library/i:1", "docker.io/library/other:2"]


def test_an_image_whose_layer_is_gone_is_not_here(store: ImageStore, tmp_path: Path) -> None:
    import_archive(store, Image(LOWER).archive(tmp_path / "i.tar", name="i.io/i:1"))
    store.layer(digest(LOWER)).rename(tmp_path / "elsewhere")
    assert store.find("i.io/i:1") is None


def test_an_image_with_an_emptied_layer_is_not_here_and_comes_again(store: ImageStore, tmp_path: Path) -> None:
    archive = Image(LOWER, UPPER).archive(tmp_path / "i.tar", name="i.io/i:1")
    import_archive(store, archive)
    image = store.find("i.io/i:1")
    assert image
    for path in image.layers[1].iterdir():
        path.unlink()
    assert store.find("i.io/i:1") is None
    import_archive(store, archive)
    image = store.find("i.io/i:1")
    assert image and (image.layers[1] / "a").read_bytes() == b"upper"


@pytest.mark.root
@pytest.mark.parametrize(
    "name", [".wh...", ".wh..", ".wh.", "d/.wh...", ".wh.a/b", ".wh./x", "d/.wh../.wh..", "d/.wh./../../x"]
)
def test_a_layer_that_is_refused_leaves_nothing_and_takes_nothing(
    store: ImageStore, registry: Registry, tmp_path: Path, name: str
) -> None:
    import_archive(store, Image(LOWER, UPPER).archive(tmp_path / "good.tar", name="good.io/g:1"))
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    bad = Image(LOWER, layer(directory("d"), entry("x", b"x"), entry(".wh.a"), entry(name)))
    registry.put("1", bad)
    with serving(registry) as host, pytest.raises(Invalid):
        pull(store, f"{host}/app:1")
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
    with pytest.raises(Invalid):
        import_archive(store, bad.archive(tmp_path / "bad.tar", name="bad.io/b:1"))
    (tmp_path / "bad.tar").unlink()
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
    assert store.names() == ["good.io/g:1"] and store.find("good.io/g:1")


@pytest.mark.parametrize("lost", ["layers", "refs.json", "one layer", "content"])
def test_a_preloaded_archive_is_imported_again_when_its_image_is_gone(
    store: ImageStore, tmp_path: Path, lost: str
) -> None:
    archive = Image(LOWER, UPPER).archive(store.preload / "i.tar", name="i.io/i:1")
    assert not store.imported(archive)
    store.mark_imported(archive, import_archive(store, archive))
    assert store.imported(archive)
    image = store.find("i.io/i:1")
    assert image
    match lost:
        case "layers":
            shutil.rmtree(store.layers)
            store.layers.mkdir()
        case "refs.json":
            store.refs_file.unlink()
        case "one layer":
            shutil.rmtree(image.layers[0])
        case "content":
            (image.layers[1] / "a").unlink()
    assert not store.imported(archive)
    store.mark_imported(archive, import_archive(store, archive))
    assert store.imported(archive) and store.find("i.io/i:1") == image


@pytest.mark.parametrize("policy", ["IfNotPresent", "Never"])
def test_a_container_brings_back_a_preloaded_image_whose_layers_are_gone(store: ImageStore, policy: str) -> None:
    name = "127.0.0.1:1/i:1"  # no registry has it
    archive = Image(LOWER).archive(store.preload / "i.tar", name=name)
    store.mark_imported(archive, import_archive(store, archive))
    shutil.rmtree(store.layers)
    store.layers.mkdir()

    async def start() -> list[bool]:
        async def pulling() -> None:
            raise AssertionError("it need not be pulled")

        pulls = ImagePulls(EmbeddedImages(store))
        return await asyncio.gather(*(pulls.ensure(name, policy, {}, pulling) for _ in range(2)))

    assert asyncio.run(start()) == [False, False]
    assert store.find(name) and not left_over(store)


def test_the_marker_of_an_earlier_version_does_not_count(store: ImageStore) -> None:
    archive = Image(LOWER).archive(store.preload / "i.tar", name="i.io/i:1")
    status = archive.stat()
    for text in (json.dumps([status.st_size, status.st_mtime_ns]), "{}", "", "null"):
        (store.preload / "i.tar.imported").write_text(text)
        assert not store.imported(archive)


def test_one_layer_over_different_parents_is_two(store: ImageStore, tmp_path: Path) -> None:
    """What it means depends on what is below: here one of them has a link on the way."""
    top = layer(entry("lib/b.so", b"b"))
    linked = Image(layer(directory("usr/lib"), link("lib", "usr/lib")), top)
    plain = Image(layer(directory("lib")), top)
    import_archive(store, linked.archive(tmp_path / "l.tar", name="l.io/l:1"))
    import_archive(store, plain.archive(tmp_path / "p.tar", name="p.io/p:1"))
    for name, path in (("l.io/l:1", "usr/lib/b.so"), ("p.io/p:1", "lib/b.so")):
        image = store.find(name)
        assert image and [str(p.relative_to(image.layers[1])) for p in image.layers[1].rglob("b.so")] == [path]


@pytest.mark.root
def test_an_opaque_root_ends_the_image(store: ImageStore, tmp_path: Path) -> None:
    image = Image(LOWER, layer(entry("c", b"c"), entry(".wh..wh..opq")), layer(entry("d", b"d"), entry(".wh.a")))
    import_archive(store, image.archive(tmp_path / "i.tar", name="i.io/i:1"))
    found = store.find("i.io/i:1")
    assert found and [sorted(p.name for p in path.iterdir()) for path in found.layers] == [["c"], ["d"]]


def docker_save(path: Path, *images: Image, names: Sequence[str | None], links: dict[str, str] | None = None) -> Path:
    """As docker before 25 wrote it: ID/layer.tar; `links` are members that are links."""
    entries, manifest = [], []
    for image, name in zip(images, names, strict=True):
        blobs = [image.blobs[item["digest"]] for item in image.manifest["layers"]]  # type: ignore[index, union-attr]
        paths = [f"{id.removeprefix('sha256:')}/layer.tar" for id in image.diff_ids]
        entries += [entry(p, data) for p, data in zip(paths, blobs, strict=True)]
        config = f"{image.digest.removeprefix('sha256:')}.json"
        entries.append(entry(config, image.blobs[image.manifest["config"]["digest"]]))  # type: ignore[index, call-overload]
        paths = [
            next((a for a, b in (links or {}).items() if b == f"../{p}"), p) if n else p for n, p in enumerate(paths)
        ]
        manifest.append({"Config": config, "RepoTags": [name] if name else None, "Layers": paths})
    entries += [link(name, target) for name, target in (links or {}).items()]
    path.write_bytes(layer(*entries, entry("manifest.json", json.dumps(manifest).encode())))
    return path


def test_docker_save_writes_a_layer_that_comes_again_as_a_link(store: ImageStore, tmp_path: Path) -> None:
    image = Image(LOWER, UPPER, LOWER, compress=False)
    links = {"again/layer.tar": f"../{digest(LOWER).removeprefix('sha256:')}/layer.tar"}
    archive = docker_save(tmp_path / "d.tar", image, names=["d.io/d:1"], links=links)
    assert import_archive(store, archive) == ["d.io/d:1"]
    found = store.find("d.io/d:1")
    assert found and [(p / "a").read_bytes() for p in found.layers] == [b"lower", b"upper", b"lower"]


@pytest.mark.parametrize("target", ["../../../etc/passwd", "/etc/passwd", "layer.tar", "../again/layer.tar", ""])
def test_a_link_of_an_archive_leads_nowhere_else(store: ImageStore, tmp_path: Path, target: str) -> None:
    image = Image(LOWER, compress=False)
    path = tmp_path / "d.tar"
    manifest = [{"Config": "c", "RepoTags": ["d.io/d:1"], "Layers": ["again/layer.tar"]}]
    config = image.blobs[image.manifest["config"]["digest"]]  # type: ignore[index, call-overload]
    members = [
        entry("c", config),
        link("again/layer.tar", target),
        entry("manifest.json", json.dumps(manifest).encode()),
    ]
    path.write_bytes(layer(*members))
    with pytest.raises(Invalid, match="is missing"):
        import_archive(store, path)
    assert not store.names() and not left_over(store)


def test_all_images_of_an_archive_are_imported_and_named(store: ImageStore, tmp_path: Path) -> None:
    one, two = Image(LOWER, compress=False), Image(LOWER, UPPER, compress=False)
    both = ["one.io/one:1", "two.io/two:2"]
    assert import_archive(store, docker_save(tmp_path / "d.tar", one, two, names=both)) == both
    assert store.names() == both
    index = {
        "manifests": [
            {"digest": image.digest, "annotations": {"io.containerd.image.name": f"oci-{name}"}}
            for image, name in zip((one, two), both, strict=True)
        ]
    }
    blobs = {f"blobs/sha256/{d.removeprefix('sha256:')}": data for i in (one, two) for d, data in i.blobs.items()}
    members = [entry("index.json", json.dumps(index).encode()), *(entry(n, data) for n, data in blobs.items())]
    (tmp_path / "o.tar").write_bytes(layer(*members))
    assert import_archive(store, tmp_path / "o.tar") == [f"oci-{name}" for name in both]
    with pytest.raises(Invalid, match="has 2 images; a name can be given to one only"):
        import_archive(store, tmp_path / "o.tar", ["third.io/x:1"])
    assert import_archive(store, docker_save(tmp_path / "n.tar", one, two, names=[None, both[1]])) == both[1:]


@pytest.mark.parametrize(
    "config",
    [
        {"Cmd": "sh"}, {"Cmd": [1]}, {"Env": 5}, {"Env": ["A=\0"]}, {"Entrypoint": {"a": "b"}}, {"Volumes": ["/a"]}, ["ab"],
        {"User": "a\0"}, {"Env": ["A=" + "x" * 300_000]}, {"Volumes": {"/a\0": {}}},
    ],
)  # fmt: skip
def test_a_configuration_that_no_container_can_have_is_refused(store: ImageStore, tmp_path: Path, config: Any) -> None:
    with pytest.raises(Invalid):
        import_archive(store, Image(LOWER, config=config).archive(tmp_path / "i.tar", name="i.io/i:1"))
    assert not store.names()


@pytest.mark.parametrize("manifest", [b"[" * 100_000, b"[]", b"{}", b"null", b'[{"Config": 5}]', b'{"a": 1}', b'["x"]'])
@pytest.mark.parametrize("name", ["manifest.json", "index.json"])
def test_documents_of_an_archive_that_make_no_sense_are_answered(
    store: ImageStore, tmp_path: Path, name: str, manifest: bytes
) -> None:
    (tmp_path / "x.tar").write_bytes(layer(entry(name, manifest)))
    request = {"root": str(store.root), "archive": str(tmp_path / "x.tar")}
    assert "recursion" not in fetch._answer(request)["error"]


def test_what_the_helper_says_is_short(store: ImageStore, tmp_path: Path) -> None:
    archive = Image(layer(entry("../" + "x" * 200_000, b"x"))).archive(tmp_path / "i.tar", name="n" * 3000 + "/i:1")
    answer = fetch._answer({"root": str(store.root), "archive": str(archive)})
    assert 0 < len(answer["error"]) < 2000


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(store: ImageStore, tmp_path: Path) -> None:
    image, other = Image(LOWER), Image(UPPER)
    image.blobs |= other.blobs
    image.blobs[image.digest] = other.blobs[other.digest]
    with pytest.raises(Invalid, match="does not have its digest"):
        import_archive(store, image.archive(tmp_path / "i.tar", name="i.io/i:1"))


def test_an_archive_without_a_name_asks_for_one(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="names no image; give a name"):
        import_archive(store, Image(LOWER).archive(tmp_path / "i.tar"))


def test_a_layer_that_is_not_what_its_digest_says_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    image = Image(LOWER)
    wrong = gzip.compress(UPPER)
    image.blobs[image.manifest["layers"][0]["digest"]] = wrong
    with pytest.raises(Invalid, match="does not have its digest"):
        import_archive(store, image.archive(tmp_path / "i.tar", name="i.io/i:1"))
    assert not left_over(store) and store.find("i.io/i:1") is None and not list(store.layers.iterdir())


def test_what_an_interrupted_pull_left_is_swept(store: ImageStore) -> None:
    (store.layers / "new-xyz/etc").mkdir(parents=True)
    store.sweep()
    assert not left_over(store)


def test_the_helper_process_says_what_is_wrong(store: ImageStore, tmp_path: Path) -> None:
    archive = Image(LOWER).archive(tmp_path / "i.tar", name="i.io/i:1")
    request = {"root": str(store.root), "archive": str(archive)}
    assert asyncio.run(fetch.run_helper(request)) == ["i.io/i:1"]
    assert store.find("i.io/i:1")
    for bad, words in (("none.tar", "No such file"), ("garbage.tar", "could not be opened")):
        (tmp_path / "garbage.tar").write_bytes(b"garbage" * 1000)
        with pytest.raises(Invalid, match=words):
            asyncio.run(fetch.run_helper({"root": str(store.root), "archive": str(tmp_path / bad)}))


def test_what_asks_for_gigabytes_ends_the_helper_not_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address space of the helper is limited: what is in no other bound ends in a message."""

    def too_much(_: dict[str, Any]) -> list[str]:
        raise MemoryError

    monkeypatch.setattr(fetch, "_perform", too_much)
    assert "bytes of memory" in fetch._answer({})["error"]


def test_a_header_that_says_gigabytes_is_not_read(store: ImageStore, tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 6 * 1024**3
    path = tmp_path / "bomb.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    os.truncate(path, 7 * 1024**3)  # sparse: nothing on disk
    with pytest.raises(Invalid, match="header of 6442450944 bytes"):
        asyncio.run(fetch.run_helper({"root": str(store.root), "archive": str(path)}))


# -- a registry ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def registry() -> Registry:
    return Registry()


def pull(store: ImageStore, name: str, auth: dict[str, str] | None = None) -> list[str]:
    return Puller(store, PullSettings(auth=auth or {}, pause=0.001)).pull(parse(name))


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # the puller's process ends; its sockets with it


def test_an_image_is_pulled_layer_by_layer_and_known_layers_are_not_asked_for(
    store: ImageStore, registry: Registry
) -> None:
    registry.put("1", Image(LOWER, UPPER))
    registry.put("2", Image(LOWER))
    with serving(registry) as host:
        assert pull(store, f"{host}/app:1") == [f"{host}/app:1"]
        blobs = len([p for p in registry.asked if "/blobs/" in p])
        pull(store, f"{host}/app:2")
        assert len([p for p in registry.asked if "/blobs/" in p]) == blobs + 1  # its configuration
    image = store.find(f"{host}/app:1")
    assert image and [(p / "a").read_bytes() for p in image.layers] == [b"lower", b"upper"]


def test_the_manifest_for_this_machine_is_chosen(store: ImageStore, registry: Registry) -> None:
    mine, other = Image(LOWER), Image(UPPER)
    registry.put("mine", mine)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    manifests = [
        {"digest": other.digest, "platform": {"os": "linux", "architecture": "s390x"}},
        {"digest": mine.digest, "platform": {"os": "linux", "architecture": machine}},
    ]
    registry.manifests["1"] = json.dumps({"manifests": manifests}).encode()
    registry.manifests["2"] = json.dumps({"manifests": manifests[:1]}).encode()
    with serving(registry) as host:
        pull(store, f"{host}/app:1")
        with pytest.raises(Invalid, match="not made for linux/"):
            pull(store, f"{host}/app:2")
        image = store.find(f"{host}/app:1")
        assert image and (image.layers[0] / "a").read_bytes() == b"lower"


def test_a_pull_by_digest_takes_nothing_else(store: ImageStore, registry: Registry) -> None:
    image = Image(LOWER)
    registry.put("1", image)
    with serving(registry) as host:
        pull(store, f"{host}/app@{image.digest}")
        registry.manifests[image.digest] = json.dumps(Image(UPPER).manifest).encode()
        with pytest.raises(Invalid, match="the manifest does not have its digest"):
            pull(store, f"{host}/app@{image.digest}")


@pytest.mark.parametrize("basic", [False, True])
def test_credentials_open_what_is_closed_and_wrong_ones_are_named(
    store: ImageStore, registry: Registry, basic: bool
) -> None:
    registry.put("1", Image(LOWER))
    registry.password, registry.basic = "pw", basic
    with serving(registry) as host:
        with pytest.raises(Invalid, match=r"credentials \(imagePullSecrets\)|answered 401"):
            pull(store, f"{host}/app:1")
        with pytest.raises(Invalid, match=r"credentials \(imagePullSecrets\)|answered 401"):
            pull(store, f"{host}/app:1", {host: base64.b64encode(b"me:wrong").decode()})
        assert pull(store, f"{host}/app:1", {host: base64.b64encode(b"me:pw").decode()})


def test_a_token_that_ends_in_the_middle_is_replaced(store: ImageStore, registry: Registry) -> None:
    registry.put("1", Image(*(layer(entry(f"f{n}", b"x")) for n in range(5))))
    registry.password, registry.token_is_good_for = "pw", 3
    with serving(registry) as host:
        assert pull(store, f"{host}/app:1", {host: base64.b64encode(b"me:pw").decode()})
        assert registry.tokens == 3  # for a manifest, a configuration and five layers
        registry.token_is_good_for = -1  # none is good: no endless asking
        registry.manifests["2"] = registry.manifests["1"]
        with pytest.raises(Invalid, match="wants other credentials"):
            pull(store, f"{host}/app:2", {host: base64.b64encode(b"me:pw").decode()})
        assert registry.tokens == 4
    image = store.find(f"{host}/app:1")
    assert image and len(image.layers) == 5


def test_credentials_are_not_for_those_to_whom_the_registry_redirects(store: ImageStore, registry: Registry) -> None:
    """One that asks for them itself, with its own token service."""
    elsewhere = Registry()
    elsewhere.password = "pw"
    registry.put("1", Image(LOWER))
    elsewhere.blobs = registry.blobs
    with serving(registry) as host, serving(elsewhere) as other:
        registry.redirect_blobs = f"http://{other}/v2/app/blobs/"
        with pytest.raises(Invalid, match="wants other credentials"):
            pull(store, f"{host}/app:1", {host: base64.b64encode(b"me:pw").decode()})
    assert elsewhere.tokens == 0 and elsewhere.asked


def test_credentials_do_not_follow_a_redirect_to_another_host(store: ImageStore, registry: Registry) -> None:
    elsewhere = Registry()
    heard: list[str] = []
    ordinary = elsewhere.answer

    def listen(handler: http.server.BaseHTTPRequestHandler) -> None:
        heard.append(handler.headers.get("authorization", ""))
        ordinary(handler)

    elsewhere.answer = listen  # type: ignore[method-assign]
    registry.put("1", Image(LOWER))
    elsewhere.blobs = registry.blobs
    registry.password = "pw"
    with serving(registry) as host, serving(elsewhere) as other:
        registry.redirect_blobs = f"http://{other}/v2/app/blobs/"
        assert pull(store, f"{host}/app:1", {host: base64.b64encode(b"me:pw").decode()})
    assert heard and set(heard) == {""}


def test_what_is_missing_broken_or_unsupported_is_said(store: ImageStore, registry: Registry) -> None:
    registry.put("zstd", Image(b"\x28\xb5\x2f\xfd" + b"0" * 100, compress=False))
    registry.manifests["schema1"] = b'{"fsLayers": []}'
    registry.manifests["list"] = b"[]"
    registry.manifests["garbage"] = b"\x00"
    registry.manifests["digest"] = b'{"config": {"digest": "sha256:../../../etc/passwd"}, "layers": []}'
    registry.put("cut", Image(layer(entry("big", os.urandom(100_000)))))
    with serving(registry) as host:
        for tag, words in (
            ("nothing", f"{host}/app:nothing does not exist in the registry {host}"),
            ("zstd", "no zstd stream"),
            ("schema1", "schema 1"),
            ("list", "not an object"),
            ("garbage", "not JSON"),
            ("digest", "is not a digest"),
        ):
            with pytest.raises(Invalid, match=words):
                pull(store, f"{host}/app:{tag}")
        registry.cut_blobs = True
        with pytest.raises(Exception):  # noqa: B017 - a connection that breaks off has many names
            pull(store, f"{host}/app:cut")
    with pytest.raises(Invalid, match="cannot reach the registry"):
        pull(store, f"{host}/app:1")
    assert not left_over(store) and not store.names()


def test_a_registry_that_is_not_on_this_machine_is_asked_over_tls_only() -> None:
    plain = RegistryMirrors.of((), ("plain.test:5000",)).is_plain
    assert plain("plain.test:5000") and plain("localhost:5000") and plain("127.0.0.1:1") and plain("[::1]:5000")
    assert not plain("other.test:5000") and not plain("127.0.0.1.evil.test")


def test_removing_an_image_keeps_the_layers_that_others_need(store: ImageStore, tmp_path: Path) -> None:
    import_archive(store, Image(LOWER, UPPER).archive(tmp_path / "a.tar", name="a.io/a:1"), ["a.io/a:2"])
    import_archive(store, Image(LOWER).archive(tmp_path / "b.tar", name="b.io/b:1"))

    def layers() -> int:
        return len([p for p in store.layers.iterdir() if p.is_dir()])

    assert layers() == 2
    store.remove("a.io/a:1", frozenset())
    assert store.find("a.io/a:1") is None and store.find("a.io/a:2") and layers() == 2
    store.remove("a.io/a:2", frozenset())
    assert store.names() == ["b.io/b:1"] and store.find("b.io/b:1") and layers() == 1
    store.remove("a.io/a:2", frozenset())
    store.remove("b.io/b:1", frozenset())
    assert not list(store.layers.iterdir())


def test_removing_an_image_keeps_the_layers_that_containers_are_mounted_from(store: ImageStore, tmp_path: Path) -> None:
    archive = Image(LOWER, UPPER).archive(tmp_path / "a.tar", name="a.io/a:1")
    for in_use in ("one", None):
        import_archive(store, archive)
        image = store.find("a.io/a:1")
        assert image
        store.remove("a.io/a:1", {image.layers[0].name} if in_use else None)
        assert image.layers[0].is_dir() and image.layers[1].is_dir() is (in_use is None)
        assert store.find("a.io/a:1") is None
    import_archive(store, archive)
    assert store.find("a.io/a:1") == image
