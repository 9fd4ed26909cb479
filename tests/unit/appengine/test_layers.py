"""Unpacking layers: what a hostile one may do (nothing), and what overlayfs then shows of several, as the image specification says."""

from __future__ import annotations

import contextlib
import io
import os
import random
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kubeedge.appengine.images.unpack import unpack
from kubeedge.appengine.runtime import mounts
from kubeedge.errors import Invalid
from tests.kit.layers import Entry, directory, entry, layer, link

HARD = tarfile.LNKTYPE


def unpacked(root: Path, *entries: Entry, max_bytes: int = 1 << 20, parents: Sequence[Path] = ()) -> Path:
    target = root / f"layer{len(parents) or ''}"
    target.mkdir()
    unpack(io.BytesIO(layer(*entries)), target, max_bytes=max_bytes, parents=parents)
    return target


def stacked(root: Path, *layers: Sequence[Entry]) -> list[Path]:
    parents: list[Path] = []
    for entries in layers:
        parents.append(unpacked(root, *entries, parents=tuple(parents)))
    return parents


@contextlib.contextmanager
def seen(root: Path, layers: Sequence[Path]) -> Iterator[Path]:
    """As a container has them."""
    for name in ("upper", "work", "rootfs"):
        (root / name).mkdir()
    mounts.overlay(layers, root / "upper", root / "work", root / "rootfs")
    try:
        yield root / "rootfs"
    finally:
        mounts.unmount(root / "rootfs")


def listing(root: Path) -> dict[str, str]:
    """Path -> what is there."""
    found = {}
    for path in sorted(root.rglob("*")):
        kind = path.lstat().st_mode
        text = "dir" if stat.S_ISDIR(kind) else f"-> {os.readlink(path)}" if stat.S_ISLNK(kind) else path.read_text()
        found[str(path.relative_to(root))] = text
    return found


def shown(root: Path, *layers: Sequence[Entry]) -> dict[str, str]:
    with seen(root, stacked(root, *layers)) as rootfs:
        return listing(rootfs)


# -- one layer -----------------------------------------------------------------------------------------------------------------


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


LONG = "x" * 256
PAX = {"pax_headers": {"path": "a\0b"}}
REFUSED: dict[str, Sequence[Entry]] = {
    "up": [entry("../up", b"x")],
    "down and up": [entry("a/../../up", b"x")],
    "hard link up": [link("h", "../../etc/passwd", HARD)],
    "hard link through a link": [link("a", "/etc"), link("h", "a/passwd", HARD)],
    "hard link to a directory": [directory("d"), link("h", "d", HARD)],
    "hard link to a whiteout": [entry(".wh.w"), link("h", "w", HARD)],
    "hard link to itself": [link("h", "h", HARD)],
    "hard link to the root": [link("h", "./", HARD)],
    "too large": [entry("x", b"x" * 600), entry("y", b"y" * 600)],
    "whiteout of nothing": [entry("d/.wh.")],
    "whiteout of its directory": [entry("d/.wh..")],
    "whiteout of the one above": [entry("d/.wh...")],
    "whiteout of nothing at the root": [entry(".wh.")],
    "whiteout of the root": [entry(".wh..")],
    "whiteout of all layers": [entry(".wh...")],
    "in a whiteout": [entry(".wh.a/b", b"x")],
    "whiteout in a whiteout": [entry("d/.wh.a/.wh.b")],
    "up out of a whiteout": [entry(".wh.a/../../up", b"x")],
    "through a whiteout": [entry("d/.wh.a/../up", b"x")],
    "NUL": [entry("x", b"x", **PAX)],
    "NUL in a link": [entry("x", type=tarfile.SYMTYPE, linkname="y", pax_headers={"linkpath": "a\0b"})],
    "long name": [entry(LONG, b"x")],
    "long name of a directory": [entry(f"{LONG}/x", b"x")],
    "long name of a whiteout": [entry(f".wh.{LONG}")],
    "deep": [entry("d/" * 1500 + "x", b"x")],
    "deep through links": [
        directory("d/" * 200), link("l", "d/" * 200), directory("l/" + "e/" * 200), link("m", "l/" + "e/" * 200), entry("m/x", b"x"),
    ],
    "links in a circle": [link("a", "b"), link("b", "a"), entry("a/x", b"x")],
    "a file and a directory": [entry("a", b"x"), entry("a/b", b"x")],
    "an owner that is none": [entry("x", b"x", uid=1 << 40)],
    "an owner below none": [entry("x", b"x", uid=-5)],
    "a time that is none": [entry("x", b"x", mtime=1e300)],
    "not a time": [entry("x", b"x", pax_headers={"mtime": "nan"})],
    "of unknown type": [entry("x", type=tarfile.XGLTYPE.replace(b"g", b"D"), size=0)],
}  # fmt: skip


@pytest.mark.parametrize("entries", REFUSED.values(), ids=REFUSED)
def test_a_layer_that_reaches_out_or_means_nothing_is_refused(tmp_path: Path, entries: Sequence[Entry]) -> None:
    for name in ("other/etc/passwd", "layers"):  # what lies beside the layer: other layers
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(Invalid):
        unpacked(tmp_path, *entries, max_bytes=1000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["layer", "layers", "other"]
    assert (tmp_path / "other/etc/passwd").is_dir()


@pytest.mark.root
@pytest.mark.parametrize("target", ["/tmp", "..", "../../..", "/proc/self/root/tmp", "x/../../../tmp"])
@pytest.mark.parametrize("name", ["a/owned", "a/b/owned", "a/.wh.owned", "a/.wh..wh..opq"])
def test_a_link_is_followed_inside_of_the_layer(tmp_path: Path, target: str, name: str) -> None:
    unique = f"owned-by-{os.getpid()}"
    root = unpacked(tmp_path, link("a", target), entry(name.replace("owned", unique)))
    assert [p.name for p in tmp_path.iterdir()] == ["layer"]
    assert not [top for top in ("/tmp", "/", "/proc/self/root/tmp") if os.path.lexists(f"{top}/{unique}")]
    assert len(list(root.rglob(unique))) == (0 if ".wh." in name else 1)


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    info, _ = entry("x", b"x")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-512).to_bytes(12, "big", signed=True)  # base-256
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(Invalid):
        unpack(io.BytesIO(bytes(header) + bytes(1024)), tmp_path, max_bytes=1000)


def test_a_sparse_file_counts_with_its_holes(tmp_path: Path) -> None:
    sparse = entry("x", b"x", pax_headers={"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": "100000",
                                           "GNU.sparse.map": "0,1"})  # fmt: skip
    with pytest.raises(Invalid, match="of more than"):
        unpacked(tmp_path, sparse, max_bytes=1000)


def test_what_aufs_kept_for_itself_is_passed_over(tmp_path: Path) -> None:
    root = unpacked(
        tmp_path,
        directory(".wh..wh.plnk"),
        entry(".wh..wh.plnk/1.2", b"x"),
        entry(".wh..wh.aufs"),
        entry("d/.wh..wh.x"),
    )
    assert not list(root.iterdir())


def test_a_leading_slash_says_nothing(tmp_path: Path) -> None:
    root = unpacked(
        tmp_path,
        directory("/d"),
        entry("/d/a", b"a"),
        entry("./d/b", b"b"),
        link("/d/c", "/d/a", HARD),
        directory("./"),
    )
    assert listing(root) == {"d": "dir", "d/a": "a", "d/b": "b", "d/c": "a"}


def test_dots_in_a_name_take_the_part_before_them_away(tmp_path: Path) -> None:
    """Before links are looked at, as the other runtimes do it; what leads out is refused."""
    root = unpacked(
        tmp_path,
        directory("d"),
        link("l", "/d"),
        entry("./d/../d/./a", b"a"),
        entry("l/../b", b"b"),
        link("c", "d/x/../a", HARD),
        entry("no/such/../../d/e", b"e"),
    )
    found = listing(root)
    assert found.pop("l") and found == {"d": "dir", "d/a": "a", "d/e": "e", "b": "b", "c": "a"}


def test_directories_keep_their_time_and_missing_ones_can_be_entered_by_everybody(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        info = directory("d")
        info[0].mtime = 1_000_000_000
        root = unpacked(tmp_path, info, entry("d/x", b"x"), entry("made/x", b"x"))
    finally:
        os.umask(old)
    assert (root / "d").stat().st_mtime == 1_000_000_000
    assert [stat.S_IMODE((root / name).stat().st_mode) for name in ("d", "made")] == [0o755, 0o755]


@pytest.mark.root
def test_whiteouts_become_what_overlayfs_understands(tmp_path: Path) -> None:
    lower = [entry("d/gone", b"x"), directory("o")]
    upper = [directory("d"), entry("d/.wh.gone"), directory("o"), entry("o/.wh..wh..opq")]
    root = stacked(tmp_path, lower, upper)[1]
    gone = (root / "d/gone").stat()
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    assert os.getxattr(root / "o", "trusted.overlay.opaque") == b"y"


def test_garbage_is_no_layer(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not a tar archive"):
        unpack(io.BytesIO(b"garbage" * 1000), tmp_path, max_bytes=1 << 20)


# -- several layers --------------------------------------------------------------------------------------------------------------

LOWER = [directory("d"), entry("d/old", b"old"), entry("d/sub/old", b"old"), entry("f", b"f")]
WHITEOUTS: dict[str, tuple[Sequence[Entry], dict[str, str]]] = {
    "a directory made anew": ([entry(".wh.d"), directory("d"), entry("d/new", b"new")], {"d": "dir", "d/new": "new"}),
    "without an entry for it": ([entry(".wh.d"), entry("d/new", b"new")], {"d": "dir", "d/new": "new"}),
    "deep in it": ([entry(".wh.d"), entry("d/sub/new", b"new")], {"d": "dir", "d/sub": "dir", "d/sub/new": "new"}),
    "opaque": ([directory("d"), entry("d/.wh..wh..opq"), entry("d/new", b"new")], {"d": "dir", "d/new": "new"}),
    "one file": ([entry("d/.wh.old"), entry("d/new", b"new")],
                 {"d": "dir", "d/new": "new", "d/sub": "dir", "d/sub/old": "old"}),
    "a file that comes again": ([entry("d/.wh.old"), entry("d/old", b"new")],
                                {"d": "dir", "d/old": "new", "d/sub": "dir", "d/sub/old": "old"}),
    "a directory that becomes a file": ([entry(".wh.d"), entry("d", b"file")], {"d": "file"}),
    "a directory that becomes a link": ([entry(".wh.d"), link("d", "f")], {"d": "-> f"}),
    "what is not there": ([entry("d/.wh.x"), entry(".wh.y")],
                          {"d": "dir", "d/old": "old", "d/sub": "dir", "d/sub/old": "old"}),
}  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize(("entries", "expected"), WHITEOUTS.values(), ids=WHITEOUTS)
@pytest.mark.parametrize("order", ["as written", "reversed"])
def test_a_whiteout_hides_what_is_below_wherever_it_stands(
    tmp_path: Path, entries: Sequence[Entry], expected: dict[str, str], order: str
) -> None:
    entries = entries if order == "as written" else entries[::-1]
    assert shown(tmp_path, LOWER, entries) == {**expected, "f": "f"}


REPLACED: dict[str, tuple[Sequence[Sequence[Entry]], dict[str, str]]] = {
    "directory by file": ([[entry("d/x", b"x")], [entry("d", b"file")]], {"d": "file"}),
    "file by directory": ([[entry("d", b"x")], [directory("d"), entry("d/y", b"y")]], {"d": "dir", "d/y": "y"}),
    "file by directory without an entry": ([[entry("d", b"x")], [entry("d/y", b"y")]], {"d": "dir", "d/y": "y"}),
    "and back": ([[entry("d/x", b"x")], [entry("d", b"file")], [entry("d/y", b"y")]], {"d": "dir", "d/y": "y"}),
    "link by directory": ([[entry("t/x", b"x"), link("d", "t")], [directory("d"), entry("d/y", b"y")]],
                          {"d": "dir", "d/y": "y", "t": "dir", "t/x": "x"}),
    "by a device": ([[entry("d/x", b"x")], [entry("d/x", type=tarfile.CHRTYPE, devmajor=1, devminor=3)]], {"d": "dir"}),
    "opaque root": ([[entry("d/x", b"x")], [entry("y", b"y")]], {"d": "dir", "d/x": "x", "y": "y"}),
    "after its children": ([[entry("d/x", b"x"), directory("d")]], {"d": "dir", "d/x": "x"}),
    "shown again after two whiteouts": ([LOWER, [entry(".wh.d"), entry(".wh.f")], [entry("d/z", b"z")]], {"d": "dir", "d/z": "z"}),
}  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize(("layers", "expected"), REPLACED.values(), ids=REPLACED)
def test_what_a_layer_replaces_is_replaced(
    tmp_path: Path, layers: Sequence[Sequence[Entry]], expected: dict[str, str]
) -> None:
    assert shown(tmp_path, *layers) == expected


USR = [directory("usr/lib"), entry("usr/lib/a.so", b"a"), link("lib", "usr/lib")]
MERGED = {"lib": "-> usr/lib", "usr": "dir", "usr/lib": "dir", "usr/lib/a.so": "a", "usr/lib/b.so": "b"}


@pytest.mark.root
@pytest.mark.parametrize(
    "layers",
    [
        [[*USR, entry("lib/b.so", b"b")]],
        [USR, [entry("lib/b.so", b"b")]],
        [USR, [entry("usr/lib/x", b"")], [entry("lib/.wh.x"), entry("/lib/b.so", b"b")]],
        [[*USR[:2], link("lib", "/usr/lib")], [entry("lib/b.so", b"b")], [link("lib", "usr/lib")]],
        [[*USR, link("l", "/x/../lib/./")], [entry("l/b.so", b"b")], [entry(".wh.l")]],
        [USR, [entry("tmp", b"b"), link("lib/b.so", "tmp", HARD), entry("x")], [entry(".wh.tmp"), entry(".wh.x")]],
    ],
)
def test_links_of_any_layer_are_followed_inside_of_the_root(tmp_path: Path, layers: Sequence[Sequence[Entry]]) -> None:
    assert shown(tmp_path, *layers) == MERGED


@pytest.mark.root
def test_a_directory_below_keeps_owner_mode_and_time_when_something_is_put_into_it(tmp_path: Path) -> None:
    lower = [directory("srv/data"), directory("srv"), entry("srv/data/a", b"a")]
    for info, _ in lower[:2]:
        info.uid, info.gid, info.mode, info.mtime = 1000, 1001, 0o1770, 1_000_000_000
    with seen(tmp_path, stacked(tmp_path, lower, [entry("srv/data/b", b"b")])) as rootfs:
        for path in (rootfs / "srv", rootfs / "srv/data"):
            status = path.stat()
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1000, 1001, 0o1770)
            assert status.st_mtime == 1_000_000_000
        assert sorted(os.listdir(rootfs / "srv/data")) == ["a", "b"]


@pytest.mark.root
def test_a_hard_link_to_a_file_below_is_one_file(tmp_path: Path) -> None:
    lower = [entry("bin/su", b"su", mode=0o4755, uid=7), link("bin/sl", "su")]
    upper = [link("bin/su2", "/bin/su", HARD), link("sl2", "bin/sl", HARD), link("bin/su3", "bin/su2", HARD)]
    with seen(tmp_path, stacked(tmp_path, lower, upper)) as rootfs:
        su, su2, su3 = ((rootfs / "bin" / name).stat() for name in ("su", "su2", "su3"))
        assert su.st_ino == su2.st_ino == su3.st_ino and stat.S_IMODE(su.st_mode) == 0o4755 and su.st_uid == 7
        assert os.readlink(rootfs / "sl2") == "su" and (rootfs / "bin/su3").read_bytes() == b"su"


@pytest.mark.root
def test_what_is_copied_up_for_hard_links_counts(tmp_path: Path) -> None:
    lower = unpacked(tmp_path, entry("big", b"x" * 900))
    with pytest.raises(Invalid, match="of more than 1000"):
        unpacked(tmp_path, entry("y", b"y" * 200), link("h", "big", HARD), max_bytes=1000, parents=[lower])


@pytest.mark.root
def test_more_layers_than_a_mount_has_room_for_their_paths(tmp_path: Path) -> None:
    layers = stacked(tmp_path, *([entry(f"f{n}", b"")] for n in range(127)))
    with seen(tmp_path, layers) as rootfs:
        assert len(os.listdir(rootfs)) == 127


def random_layer(draw: random.Random) -> tuple[dict[str, str | None], set[str], set[str]]:
    """Path -> content (None: a directory); whiteouts; opaque directories. None of its own files is on the way to another."""
    files: dict[str, str | None] = {}
    for _ in range(draw.randrange(6)):
        path = "/".join(draw.choice("abc") for _ in range(draw.randrange(1, 4)))
        above = {path[:n] for n in range(len(path)) if path[n] == "/"}
        if path not in files and not any(files.get(p, None) is not None for p in above):
            if any(other.startswith(path + "/") for other in files) or draw.random() < 0.3:
                files[path] = None
            else:
                files[path] = str(draw.randrange(1000))
    ways = {p for p in files if files[p] is None} | {p[:n] for p in files for n in range(len(p)) if p[n] == "/"}
    blocked = {p for p in files if files[p] is not None}
    every = ["/".join(p) for p in ("a", "b", "c", "aa", "ab", "ba", "bc", "ca", "aab", "bca")]
    usable = [p for p in every if not any(p.startswith(b + "/") for b in blocked)]
    hidden = {p for p in usable if draw.random() < 0.15}
    return files, hidden, {p for p in ways if draw.random() < 0.15}


def as_the_specification_says(layers: Sequence[tuple[dict[str, str | None], set[str], set[str]]]) -> dict[str, str]:
    tree: dict[str, str] = {}

    def clear(path: str) -> None:
        for other in [p for p in tree if p.startswith(path + "/")]:
            del tree[other]

    def make(path: str) -> None:
        for n in (*(n for n in range(len(path)) if path[n] == "/"), len(path)):
            tree[path[:n]] = "dir"

    for files, hidden, opaque in layers:
        for path in hidden | opaque:
            clear(path)
        for path in hidden:
            tree.pop(path, None)
        for path in opaque | {path.rsplit("/", 1)[0] for path in hidden if "/" in path}:
            make(path)  # a whiteout says that its directory is there
        for path, content in files.items():
            if content is None:
                make(path)
            else:
                if "/" in path:
                    make(path.rsplit("/", 1)[0])
                clear(path)
                tree[path] = content
    return dict(sorted(tree.items()))


@pytest.mark.root
@pytest.mark.parametrize("seed", range(150))
def test_any_layers_in_any_order_of_entries_are_shown_as_the_specification_says(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    layers = [random_layer(draw) for _ in range(draw.randrange(1, 5))]
    made = []
    for files, hidden, opaque in layers:
        entries = [directory(p) if content is None else entry(p, content.encode()) for p, content in files.items()]
        entries += [entry("/".join((*p.split("/")[:-1], f".wh.{p.split('/')[-1]}"))) for p in sorted(hidden)]
        entries += [entry(f"{p}/.wh..wh..opq") for p in sorted(opaque)]
        draw.shuffle(entries)
        made.append(entries)
    assert dict(sorted(shown(tmp_path, *made).items())) == as_the_specification_says(layers)


def _block(kind: bytes, size: int, name: str = "x") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


PAX = b"13 comment=x\n"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (tarfile.GNUTYPE_LONGNAME, b"name\0"),
        (tarfile.GNUTYPE_LONGLINK, b"link\0"),
        (tarfile.XHDTYPE, PAX),
        (tarfile.XGLTYPE, PAX),
    ],
    ids=["long name", "long link", "pax", "pax for all"],
)
def test_headers_in_front_of_an_entry_are_counted(tmp_path: Path, kind: bytes, data: bytes) -> None:
    """tarfile reads each of them inside of the one before: 3,000 end in Python's limit of nested calls, or far below it with a message."""
    one = _block(kind, len(data)) + _padded(data)
    with pytest.raises(Invalid, match="more than 16 headers in front of one entry"):
        unpack(io.BytesIO(one * 3000 + _block(tarfile.REGTYPE, 0) + bytes(1024)), tmp_path, max_bytes=1 << 20)
    unpack(io.BytesIO((one * 3 + _block(tarfile.REGTYPE, 0)) * 100 + bytes(1024)), tmp_path, max_bytes=1 << 20)


class Endless(io.RawIOBase):
    """A head, then as many bytes of one value as anybody wants; how many were read."""

    def __init__(self, head: bytes, fill: bytes) -> None:
        self.head, self.fill, self.count = head, fill, 0

    def read(self, size: int = -1) -> bytes:
        data = (self.head + self.fill * (size // len(self.fill) + 1))[:size]
        self.head = self.head[size:]
        self.count += len(data)
        assert self.count < 64 << 20, "it is read as long as it goes on"
        return data


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_is_not_read_as_long_as_it_says_that_it_is(tmp_path: Path, kind: bytes) -> None:
    stream = Endless(_block(kind, 4 << 30), b"a")
    with pytest.raises(Invalid, match="header of 4294967296 bytes"):
        unpack(stream, tmp_path, max_bytes=1 << 40)
    assert stream.count < 1 << 20


def test_the_map_of_a_sparse_file_is_bounded(tmp_path: Path) -> None:
    """Each of its blocks says that another one follows: a layer of a megabyte, compressed, would be gigabytes of numbers here."""
    numbers = (b"00000000001\0" * 42)[:504] + b"\1" + bytes(7)
    head = bytearray(_block(tarfile.GNUTYPE_SPARSE, 0))
    head[482:483] = b"\1"
    head[148:156] = b"%06o\0 " % (256 + sum(head[:148]) + sum(head[156:]))
    stream = Endless(bytes(head), numbers)
    with pytest.raises(Invalid, match="bytes of headers in front of one entry"):
        unpack(stream, tmp_path, max_bytes=1 << 40)
    assert stream.count < 4 << 20
