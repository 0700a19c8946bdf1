"""Networks shared on a hub: a small one on this machine that speaks the protocol of the real one."""

import base64
import hashlib
import http.server
import json
import threading

import pytest
from conftest import easy_faces
from typer.testing import CliRunner

from fer_helpers.cli import app
from fer_helpers.files import FerError
from fer_helpers.inference.hub import push
from fer_helpers.inference.loading import load_network
from fer_helpers.inference.pretrained import probabilities
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.prediction import predict_logits
from fer_helpers.training.runs import Run, train_run

TOKEN = "hf_" + "a" * 34


class Hub(http.server.BaseHTTPRequestHandler):
    """Keeps the files of repositories by name in ``server.repos``, and what was asked in ``server.asked``."""

    def answer(self, code, body=b"", **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for key, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"], text))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        if self.path == "/api/repos/create":
            asked = json.loads(text)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.server.repos.setdefault(name, {})
            return self.answer(200, {"url": f"{self.server.address}/{name}"})
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            return self.answer(200, {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                                               for one in json.loads(text)["files"]]})
        name = self.path.removeprefix("/api/models/").split("/commit/")[0]
        for line in map(json.loads, text.splitlines()):
            if line["key"] == "file":
                self.server.repos[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.answer(200, {"commitOid": "c" * 40, "commitUrl": f"{self.server.address}/{name}/commit/{'c' * 40}"})

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Authorization"], b""))
        path = self.path.split("?")[0]
        for name, files in self.server.repos.items():
            if path.startswith(f"/api/models/{name}/tree/"):
                return self.answer(200, [{"type": "file", "path": file, "size": len(content),
                                          "oid": hashlib.sha1(content).hexdigest()} for file, content in files.items()])
            if path.startswith(f"/api/models/{name}"):
                return self.answer(200, {"id": name, "modelId": name, "sha": "c" * 40, "private": True, "tags": [],
                                         "siblings": [{"rfilename": file} for file in files]})
            if path.startswith(f"/{name}/resolve/"):
                content = files[path.split("/")[-1]]
                return self.answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit="c" * 40)
        return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.address, server.repos, server.asked = f"http://127.0.0.1:{server.server_port}", {}, []
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def seen_by_all(hub):
    """What a new repository was asked to be; the client says so in one of two ways, by its version."""
    asked = next(json.loads(text) for path, _, text in hub.asked if path == "/api/repos/create")
    return asked["visibility"] == "public" if "visibility" in asked else not asked["private"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    config = TrainConfig(arch="simple_cnn", classes=3, epochs=1, batch_size=16)
    return train_run(config, easy_faces(), tmp_path_factory.mktemp("runs"), progress=False)


def test_what_was_pushed_is_pulled_and_answers_alike(hub, run):
    assert push(run, "user/faces") == f"{hub.address}/user/faces"
    assert sorted(hub.repos["user/faces"]) == ["README.md", "network.json", "network.safetensors"]
    assert seen_by_all(hub) is False
    found, images = load_network("hf://user/faces"), easy_faces().images[:20]
    assert found.config == run.config and found.metrics["test"].accuracy == run.metrics["test"].accuracy
    assert predict_logits(found.model, images).numpy() == pytest.approx(predict_logits(run.model(), images), abs=0.02)
    before = len(hub.asked)
    again = load_network("hf://user/faces")
    assert (probabilities(again, images) == probabilities(found, images)).all()
    fetched = [path for path, _, _ in hub.asked[before:] if "/resolve/" in path]
    assert not fetched  # kept from the first time


def test_the_card_of_a_pushed_network_tells_the_hub_and_the_reader_what_it_is(hub, run):
    push(run, "user/faces", private=False)
    card = hub.repos["user/faces"]["README.md"].decode()
    assert card.startswith("---\n") and "pipeline_tag: image-classification" in card.split("---")[1]
    assert "# Model card: simple_cnn, three emotions" in card and run.metrics["test"].accuracy.percent in card
    assert "synthetic" not in run.environment["data"] or "FER2013" not in card
    assert seen_by_all(hub) is True


def test_no_token_leaves_with_a_file(hub, run):
    push(run, "user/faces")
    assert TOKEN.encode() not in b"".join(content for content in hub.repos["user/faces"].values())


@pytest.mark.parametrize(("name", "message"), [
    ("hf://user/nothing", "hf://user/nothing: .*check the name"),
    ("hf://not a name", "hf://not a name: .*check the name")])
def test_what_is_not_there_is_named(hub, name, message):
    with pytest.raises(FerError, match=message):
        load_network(name)


def test_a_repository_of_something_else_is_named(hub):
    hub.repos["user/other"] = {"network.json": b"{}", "model.bin": b"x"}
    with pytest.raises(FerError, match="choose a repository that `fer push` wrote, not hf://user/other"):
        load_network("hf://user/other")


def test_without_a_right_to_write_the_push_says_so(hub, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(FerError, match="hf://user/faces: .*hf auth login"):
        push(run, "user/faces")
    assert not hub.repos


def test_a_hub_that_cannot_be_reached_is_named(hub, run, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(FerError, match="hf://user/faces: .*and the network"):
        push(run, "user/faces")


def test_the_command_pushes_a_run_of_the_store(hub, run):
    result = CliRunner().invoke(app, ["push", run.name, "user/faces", "--store", str(run.folder.parent)])
    assert result.exit_code == 0, result.output
    assert f"{hub.address}/user/faces" in result.stdout and "user/faces" in hub.repos
