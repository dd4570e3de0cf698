"""A data set of the hub, over HTTP: a server here answers as the hub does."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

COMMIT = "a" * 40
PLACE = "data/train.jsonl"
TEXTS = [f"document {number}, which is like no other" for number in range(3000)]
CONTENT = "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS))
SCRIPT = """
import json, sys
from modsearch.config.data import SourceConfig
from modsearch.data.hub import files_of
from modsearch.data.reading import documents_of

source = SourceConfig(path="hub:someone/texts", streaming=sys.argv[1] == "True")
files = files_of(source)
print(json.dumps([text.decode() for path in files for text in documents_of(path, source.text)]))
"""


class Hub(BaseHTTPRequestHandler):
    """One data set of one file."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """Its facts, its folders, its file."""
        path, _, query = self.path.partition("?")
        api, files = "/api/datasets/someone/texts", "/datasets/someone/texts/resolve/"
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            self.answer({"id": "someone/texts", "sha": COMMIT, "siblings": [{"rfilename": PLACE}],
                         "private": False, "disabled": False, "tags": []})  # fmt: skip
        elif path.startswith(f"{api}/tree/"):
            folder = {"type": "directory", "path": "data", "oid": "c" * 40, "size": 0}
            file = {"type": "file", "path": PLACE, "oid": "b" * 40, "size": len(CONTENT)}
            inside = path.endswith("/data") or "recursive=true" in query.lower()
            self.answer([file] if inside else [folder])
        elif path.startswith(files) and path.endswith(PLACE):
            self.file()
        else:
            self.reply(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET

    def file(self) -> None:
        """The whole or a range."""
        self.asked.append(self.command)
        content = CONTENT.encode()
        headers = {"ETag": '"one"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if (stated := self.headers.get("Range")) is None:
            return self.reply(200, content, headers)
        low, _, high = stated.removeprefix("bytes=").partition("-")
        part = content[int(low) : int(high) + 1 if high else None]
        end = int(low) + len(part) - 1
        headers["Content-Range"] = f"bytes {low}-{end}/{len(content)}"
        return self.reply(206, part, headers)

    def answer(self, value: object) -> None:
        """JSON."""
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def reply(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        """Send it."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def endpoint() -> Iterator[str]:
    """Of a hub."""
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [True, False])
def test_a_data_set_comes_over_http(streaming: bool, endpoint: str, tmp_path: Path) -> None:
    """In a process of its own: the hub's libraries read where it is when they are imported."""
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    places = {"HF_HOME": tmp_path / "home", "MODSEARCH_CACHE": tmp_path / "cache"}
    environment = {**kept, "HF_ENDPOINT": endpoint, **{k: str(v) for k, v in places.items()}}
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_CACHE", "HF_HUB_CACHE"):
        environment.pop(name, None)
    command = [sys.executable, "-c", SCRIPT, str(streaming)]
    found = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == TEXTS
    assert "GET" in Hub.asked
    whole = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    copies = [path for path in whole if path.stat().st_size >= len(CONTENT)]
    assert bool(copies) != streaming, "streamed, the data set itself is not kept"
