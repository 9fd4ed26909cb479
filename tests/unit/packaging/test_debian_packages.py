"""Debian's packages for images and wheels: the latest, and those that were fetched before where the mirror does not answer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cross.wheels import debian
from cross.wheels.debian import Release

#: apt-get, of a mirror that is a directory: one file for each package, which has its version
APT = r"""#!/bin/sh
echo "$*" >>@/asked
[ -e @/mirror ] || { echo "E: no network" >&2; exit 100; }
sources=$(sed -n 's/^Dir::Etc::sourcelist "\(.*\)";/\1/p' "$APT_CONFIG")
if grep -q -- -security "$sources" && [ -e @/in-its-own-update ]; then echo "E: File has unexpected size" >&2; exit 100; fi
[ "$2" = download ] || exit 0
shift 2
for name; do [ "$name" != --print-uris ] || only=1; done
for name; do
    [ "$name" != --print-uris ] || continue
    file=${name}_$(cat @/mirror/$name)_arm64.deb
    [ ! -e $file ] || continue # as apt does
    [ -z "$only" ] && cp @/mirror/$name $file || echo "'http://deb.debian.org/x/$file' $file 7 SHA256:00"
done
"""


class Mirror:
    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory, self.now = directory, 1_000_000_000.0
        (directory / "bin").mkdir()
        (directory / "mirror").mkdir()
        program = directory / "bin/apt-get"
        program.write_text(APT.replace("@", str(directory)))
        program.chmod(0o755)
        patch.setenv("PATH", f"{directory}/bin:{os.environ['PATH']}")
        patch.setattr(debian.time, "time", lambda: self.now)
        self.has(libzstd1="1.5", libc6="2.41")

    def has(self, **versions: str) -> None:
        for name, version in versions.items():
            (self.directory / "mirror" / name).write_text(version)

    def fetch(self, *names: str) -> list[str]:
        files = Release("trixie", "arm64", self.directory / "cache").fetch(list(names))
        assert all(file.exists() for file in files)
        updated = self.directory / "cache/trixie-arm64/updated"
        if updated.exists():
            os.utime(updated, (self.now, self.now))
        return [file.name for file in files]

    def asked(self) -> list[str]:
        path = self.directory / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    return Mirror(tmp_path, monkeypatch)


def test_what_was_fetched_is_kept_for_a_day(mirror: Mirror) -> None:
    assert mirror.fetch("libzstd1", "libc6") == ["libzstd1_1.5_arm64.deb", "libc6_2.41_arm64.deb"]
    mirror.asked()
    mirror.has(libzstd1="1.5+deb13u1")
    mirror.now += 3600
    assert mirror.fetch("libzstd1") == ["libzstd1_1.5_arm64.deb"] and mirror.asked() == []
    mirror.now += 24 * 3600
    assert mirror.fetch("libzstd1", "libc6") == ["libzstd1_1.5+deb13u1_arm64.deb", "libc6_2.41_arm64.deb"]
    assert mirror.asked() == ["-q update", "-q download libzstd1 libc6 --print-uris", "-q download libzstd1"]


def test_what_is_there_and_not_known_is_not_fetched_again(mirror: Mirror) -> None:
    mirror.fetch("libzstd1", "libc6")
    mirror.asked()
    (mirror.directory / "cache/trixie-arm64/kept.json").unlink()
    assert mirror.fetch("libzstd1", "libc6") == ["libzstd1_1.5_arm64.deb", "libc6_2.41_arm64.deb"]
    assert mirror.asked() == ["-q download libzstd1 libc6 --print-uris"]


def test_without_the_mirror_an_image_has_what_was_fetched_before(
    mirror: Mirror, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.fetch("libzstd1")
    (mirror.directory / "mirror").rename(mirror.directory / "away")
    mirror.now += 48 * 3600
    assert mirror.fetch("libzstd1") == ["libzstd1_1.5_arm64.deb"]
    assert "without security updates of today" in capsys.readouterr().err
    with pytest.raises(subprocess.CalledProcessError):
        mirror.fetch("libzstd1", "libc6")


def test_while_security_updates_cannot_be_had_an_image_is_made_all_the_same(
    mirror: Mirror, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.has(libzstd1="1.5+deb13u1")
    mirror.fetch("libzstd1")
    (mirror.directory / "in-its-own-update").touch()
    mirror.has(libzstd1="1.5")  # as the release itself has it
    mirror.now += 2 * 24 * 3600
    assert mirror.fetch("libzstd1", "libc6") == ["libzstd1_1.5+deb13u1_arm64.deb", "libc6_2.41_arm64.deb"]
    assert "without security updates of today" in capsys.readouterr().err
    (mirror.directory / "in-its-own-update").unlink()
    mirror.has(libzstd1="1.5+deb13u2", libc6="2.41+deb13u1")
    mirror.now += 60
    assert mirror.fetch("libzstd1", "libc6") == ["libzstd1_1.5+deb13u2_arm64.deb", "libc6_2.41+deb13u1_arm64.deb"]


@pytest.mark.parametrize(("suite", "lines"), [("bookworm", 2), ("trixie", 2), ("trixie-backports", 1)])
def test_security_updates_are_of_the_mirror_too(tmp_path: Path, suite: str, lines: int) -> None:
    configuration = Release(suite, "arm64", tmp_path)._configuration()
    sources = (configuration.parent / "sources.list").read_text().splitlines()
    assert len(sources) == lines and (f" {suite}-security main" in sources[-1]) == (lines == 2)
