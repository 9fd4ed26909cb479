"""Images: names, what layers may do, archives, registries."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.images import fetch
from kubeedge.appengine.images.fetch import Puller, import_archive
from kubeedge.appengine.images.names import parse
from kubeedge.appengine.images.store import ImageStore
from kubeedge.appengine.images.unpack import unpack
from kubeedge.errors import Invalid

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


# -- layers --------------------------------------------------------------------------------------------------------------------


def entry(name: str, data: bytes | None = None, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.uid, info.gid, info.mode = os.getuid(), os.getgid(), 0o644
    if data is not None:
        info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data or b""


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=kind, linkname=target)


def directory(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.DIRTYPE, mode=0o755)


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data) if info.size else None)
    return out.getvalue()


def unpacked(root: Path, *entries: tuple[tarfile.TarInfo, bytes], max_bytes: int = 1 << 20) -> Path:
    target = root / "layer"
    target.mkdir()
    unpack(io.BytesIO(layer(*entries)), target, max_bytes=max_bytes)
    return target


def test_a_layer_is_unpacked_as_it_is(tmp_path: Path) -> None:
    root = unpacked(
        tmp_path,
        directory("./bin"),
        entry("./bin/sh", b"#!", mode=0o4755, mtime=1_000_000_000),
        link("bin/ash", "sh"),
        link("bin/hard", "bin/sh", tarfile.LNKTYPE),
        entry("deep/er/file", b"x"),
        entry("pipe", type=tarfile.FIFOTYPE),
        entry("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    )
    assert (root / "bin/sh").read_bytes() == b"#!" and (root / "bin/sh").stat().st_mtime == 1_000_000_000
    assert stat.S_IMODE((root / "bin/sh").stat().st_mode) == 0o4755
    assert os.readlink(root / "bin/ash") == "sh"
    assert (root / "bin/hard").samefile(root / "bin/sh")
    assert (root / "deep/er/file").read_bytes() == b"x" and stat.S_ISFIFO((root / "pipe").stat().st_mode)
    assert not (root / "dev/null").exists()  # devices come from the runtime


def test_a_later_entry_replaces_an_earlier_one(tmp_path: Path) -> None:
    root = unpacked(tmp_path, link("a", "/etc/passwd"), entry("a", b"mine"), entry("b", b"1"), directory("b"))
    assert (root / "a").read_bytes() == b"mine" and not (root / "a").is_symlink() and (root / "b").is_dir()
    assert b"mine" not in Path("/etc/passwd").read_bytes()


@pytest.mark.parametrize(
    "entries",
    [
        [entry("/abs", b"x")],
        [entry("../up", b"x")],
        [entry("a/../../up", b"x")],
        [link("a", "/tmp"), entry("a/owned", b"x")],
        [link("a", ".."), entry("a/owned", b"x")],
        [link("a", "/tmp"), link("a/owned", "x")],
        [link("a", "/tmp"), directory("a/owned")],
        [link("a", "/tmp"), entry("a/.wh.owned")],
        [link("a", "/tmp"), entry("a/.wh..wh..opq")],
        [link("h", "../../etc/passwd", tarfile.LNKTYPE)],
        [link("a", "/etc"), link("h", "a/passwd", tarfile.LNKTYPE)],
        [entry("x", b"x" * 600), entry("y", b"y" * 600)],
    ],
    ids=lambda entries: " ".join(info.name for info, _ in entries),
)
def test_a_layer_cannot_reach_out_of_its_directory_nor_be_too_large(
    tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    with pytest.raises(Invalid):
        unpacked(tmp_path, *entries, max_bytes=1000)
    assert [p.name for p in tmp_path.iterdir()] == ["layer"]
    assert not Path("/tmp/owned").exists()


@pytest.mark.root
def test_whiteouts_become_what_overlayfs_understands(tmp_path: Path) -> None:
    root = unpacked(tmp_path, directory("d"), entry("d/.wh.gone"), directory("o"), entry("o/.wh..wh..opq"))
    gone = (root / "d/gone").stat()
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    assert os.getxattr(root / "o", "trusted.overlay.opaque") == b"y"


def test_garbage_is_no_layer(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not a tar archive"):
        unpack(io.BytesIO(b"garbage" * 1000), tmp_path, max_bytes=1 << 20)


# -- images made here ------------------------------------------------------------------------------------------------------------


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Image:
    """One image: its layers, its blobs by digest, its manifest."""

    def __init__(self, *layers: bytes, compress: bool = True, config: dict[str, Any] | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.diff_ids = [digest(data) for data in layers]
        packed = [gzip.compress(data, mtime=0) if compress else data for data in layers]
        document = {"config": config or {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": self.diff_ids}}
        self.manifest = {
            "schemaVersion": 2,
            "config": {"digest": self.add(json.dumps(document).encode())},
            "layers": [{"mediaType": "tar+gzip", "digest": self.add(data), "size": len(data)} for data in packed],
        }
        self.digest = self.add(json.dumps(self.manifest).encode())

    def add(self, data: bytes) -> str:
        self.blobs[digest(data)] = data
        return digest(data)

    def archive(self, path: Path, *, name: str = "") -> Path:
        annotations = {"io.containerd.image.name": name} if name else {}
        index = {"manifests": [{"digest": self.digest, "annotations": annotations}]}
        files = {"index.json": json.dumps(index).encode()}
        files |= {f"blobs/sha256/{d.removeprefix('sha256:')}": data for d, data in self.blobs.items()}
        path.write_bytes(layer(*(entry(n, data) for n, data in files.items())))
        return path


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


def test_a_header_that_asks_for_gigabytes_ends_the_helper_not_the_machine(store: ImageStore, tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 6 * 1024**3
    path = tmp_path / "bomb.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    os.truncate(path, 7 * 1024**3)  # sparse: nothing on disk
    with pytest.raises(Invalid, match="bytes of memory"):
        asyncio.run(fetch.run_helper({"root": str(store.root), "archive": str(path)}))


# -- a registry ------------------------------------------------------------------------------------------------------------------


class Registry:
    """The distribution API as far as a pull needs it; `password` switches on Bearer tokens."""

    def __init__(self) -> None:
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.password = ""
        self.basic = False
        self.redirect_blobs = ""
        self.cut_blobs = False

    def put(self, name: str, image: Image) -> None:
        self.manifests[name] = json.dumps(image.manifest).encode()
        self.manifests[image.digest] = self.manifests[name]
        self.blobs |= image.blobs

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        path = handler.path
        self.asked.append(path)
        authorization = handler.headers.get("authorization", "")
        expected = "Basic " + base64.b64encode(f"me:{self.password}".encode()).decode()
        if path.startswith("/token"):
            ok = authorization == expected
            return self._send(handler, 200 if ok else 401, json.dumps({"token": "t0k"}).encode() if ok else b"")
        wanted = expected if self.basic else "Bearer t0k"
        if self.password and authorization != wanted:
            realm = f'Bearer realm="http://{handler.headers["host"]}/token",service="reg",scope="repository:app:pull"'
            challenge = 'Basic realm="reg"' if self.basic else realm
            return self._send(handler, 401, b"", {"www-authenticate": challenge})
        kind, reference = path.rsplit("/", 2)[1:]
        if kind == "blobs" and self.redirect_blobs:
            return self._send(handler, 307, b"", {"location": self.redirect_blobs + reference})
        data = (self.manifests if kind == "manifests" else self.blobs).get(reference)
        if data is not None and kind == "blobs" and self.cut_blobs:
            handler.send_response(200)
            handler.send_header("content-length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[: len(data) // 2])
            return None
        return self._send(handler, 404 if data is None else 200, data or b"")

    def _send(
        self,
        handler: http.server.BaseHTTPRequestHandler,
        status: int,
        data: bytes,
        headers: dict[str, str] | None = None,
    ) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


@contextlib.contextmanager
def serving(registry: Registry) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def registry() -> Registry:
    return Registry()


def pull(store: ImageStore, name: str, auth: dict[str, str] | None = None) -> list[str]:
    return Puller(store, (), auth or {}).pull(parse(name))


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


def test_credentials_do_not_follow_a_redirect_to_somebody_else(store: ImageStore, registry: Registry) -> None:
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
    zstd = Image(LOWER)
    zstd.manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd"  # type: ignore[index]
    registry.put("zstd", zstd)
    registry.put("hidden", Image(b"\x28\xb5\x2f\xfd" + b"0" * 100, compress=False))
    registry.manifests["schema1"] = b'{"fsLayers": []}'
    registry.manifests["list"] = b"[]"
    registry.manifests["garbage"] = b"\x00"
    registry.manifests["digest"] = b'{"config": {"digest": "sha256:../../../etc/passwd"}, "layers": []}'
    registry.put("cut", Image(layer(entry("big", os.urandom(100_000)))))
    with serving(registry) as host:
        for tag, words in (
            ("nothing", f"{host}/app:nothing does not exist in the registry {host}"),
            ("zstd", "zstd are not supported"),
            ("hidden", "zstd are not supported"),
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


def test_a_registry_that_is_not_on_this_machine_is_asked_over_tls_only(store: ImageStore) -> None:
    puller = Puller(store, ("plain.test:5000",), {})
    assert puller._plain("plain.test:5000") and puller._plain("localhost:5000") and puller._plain("127.0.0.1:1")
    assert not puller._plain("other.test:5000") and not puller._plain("127.0.0.1.evil.test")
