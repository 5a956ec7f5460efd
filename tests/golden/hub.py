"""Whether this program and Python's huggingface_hub find each other's files.

    python hub.py PROGRAM WEIGHTS

serves WEIGHTS (a .safetensors file) from a hub on this machine, downloads it with the one and looks for it offline with the other, both ways, and
has each wait for the lock of the other. Needs huggingface_hub; nothing outside this machine is reached. Exits with 1 if anything differs.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PROGRAM, WEIGHTS = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).read_bytes()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"model.safetensors": WEIGHTS, "config.json": b'{"model_type": "none"}'}
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
DELAY = [0.0]
CONTENTS = []


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0].strip("/").split("/")
        if path[0] == "blob":
            CONTENTS.append(self.headers.get("Range"))
            time.sleep(DELAY[0])
            return self.answer(200, {}, WEIGHTS)
        if path[0] == "api":
            body = {"id": "own/net", "modelId": "own/net", "sha": COMMIT, "siblings": [{"rfilename": f} for f in FILES]}
            return self.answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())
        content = FILES.get("/".join(path[4:]))
        if content is None:
            return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        if path[4].endswith(".json"):
            etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            return self.answer(200, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}, content)
        storage = f"http://localhost:{self.server.server_address[1]}/blob/{SHA256}"
        linked = {"X-Linked-ETag": f'"{SHA256}"', "X-Linked-Size": len(content), "Location": storage}
        self.answer(302, {"X-Repo-Commit": COMMIT, **linked})

    do_HEAD = do_GET


def environment(home, offline):
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    return env | {"HF_ENDPOINT": URL, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline)), "HF_HUB_DISABLE_XET": "1"}


def python(home, offline=False):
    code = """from huggingface_hub import hf_hub_download, scan_cache_dir, try_to_load_from_cache
import logging; logging.getLogger("huggingface_hub").setLevel(logging.INFO)
for name in ["model.safetensors", "config.json"]:
    print(hf_hub_download("own/net", name))
info = scan_cache_dir()
assert not info.warnings, info.warnings
assert sorted(f.file_name for r in info.repos for v in r.revisions for f in v.files) == ["config.json", "model.safetensors"]
"""
    return subprocess.Popen([sys.executable, "-c", code], env=environment(home, offline), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def atrous(home, offline=False):
    command = [PROGRAM, "inspect", "hf:own/net", "--json"]
    return subprocess.Popen(command, env=environment(home, offline), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def atrous_said(home, offline=False):
    command = [PROGRAM, "inspect", "hf:own/net"]
    return subprocess.Popen(command, env=environment(home, offline), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=120)
    if process.returncode != 0:
        sys.exit(f"FAILED: {process.args[0]}: {out}{err}")
    return out, err


def tree(home):
    return sorted(str(p.relative_to(home)) for p in (home / "hub").rglob("*") if not p.is_dir())


def check(what, holds):
    print("ok     " if holds else "FAILED ", what)
    if not holds:
        sys.exit(1)


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
URL = f"http://127.0.0.1:{server.server_address[1]}"
threading.Thread(target=server.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory() as directory:
    directory = Path(directory)
    finish(atrous(directory / "a"))
    out, _ = finish(python(directory / "a", offline=True))
    check(f"Python finds offline what this program downloaded: {out.split()[0]}", len(CONTENTS) == 1)
    finish(python(directory / "p"))
    out, _ = finish(atrous(directory / "p", offline=True))
    check(f"this program finds offline what Python downloaded: {json.loads(out)['file']}", len(CONTENTS) == 2)
    finish(python(directory / "a"))
    finish(atrous(directory / "p"))
    check("online, neither downloads it again", len(CONTENTS) == 2)
    ours, theirs = ({t for t in tree(directory / home) if ".no_exist" not in t} for home in "ap")
    check(f"both wrote the same files; only Python's: {sorted(theirs - ours)}, only ours: {sorted(ours - theirs)}", ours - theirs == set())
    for first, second, home in [(python, atrous_said, "b"), (atrous_said, python, "c")]:
        DELAY[0], before = 5.0, len(CONTENTS)
        one = first(directory / home)
        while len(CONTENTS) == before:
            time.sleep(0.05)
        other = second(directory / home)
        (_, _), (_, said) = finish(one), finish(other)
        check(f"{second.__name__} waits for {first.__name__}: {said.splitlines()[:1]}", len(CONTENTS) == before + 1)
