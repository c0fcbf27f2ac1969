"""The page of a dataset: what it shows, what it keeps, what a preparation makes of that, and who may ask it."""

import http.client
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from lerobot_sets import small_episode, write_set
from PIL import Image as PillowImage

from emu_robot.data.edits import EDITS, EditedSubtask, EpisodeEdit, read_edits, write_edit
from emu_robot.data.prepare import PrepareConfig, prepare
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.data.set_contents import digest_of
from emu_robot.data.view import DatasetView, ViewConfig
from emu_robot.data.view_server import make_server
from emu_robot.errors import DataError, InvalidValueError, SystemSetupError

CUT = [{"words": "take it", "start": 0, "keyframe": 12}, {"words": "bring it", "start": 20, "keyframe": 40}]


@pytest.fixture
def root(tmp_path) -> Path:
    episodes = [small_episode(seed) for seed in range(4)]
    episodes[2].seen = lambda t: None
    return write_set(tmp_path / "set", episodes, cameras=("top", "side"))


@pytest.fixture
def port(root) -> Iterator[int]:
    with make_server(DatasetView(ViewConfig(dataset=str(root), workers=0)), 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def ask(port: int, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    given = {"Content-Type": "application/json"} if body is not None else {}
    content = json.dumps(body) if body is not None else None
    connection.request("GET" if body is None else "POST", path, content, given | headers)
    answer = connection.getresponse()
    read = answer.status, answer.read()
    connection.close()
    return read


def test_it_shows_every_episode_with_verdict_clip_and_curves(port):
    status, page = ask(port, "/")
    assert (
        status == 200
        and b"3 PASS, 0 REVIEW, 1 EXCLUDE of 4" in page
        and b"http" not in page.replace(b"http://www.w3.org/2000/svg", b"")
    )
    told = json.loads(ask(port, "/episodes")[1])
    assert [one["verdict"] for one in told] == ["PASS", "PASS", "EXCLUDE", "PASS"] and told[0]["source"] == "motion"
    assert "black camera" in told[2]["reasons"][0] and len(told[0]["subtasks"]) > 1 and told[0]["keep"]
    curves = json.loads(ask(port, "/curves/1")[1])
    assert set(curves["state"]) == {"gripper.pos", "shoulder.pos", "elbow.pos"} and len(curves["frames"]) == 41
    with av.open(io.BytesIO(ask(port, "/clip/1")[1]), "r") as film:
        assert film.streams.video[0].codec_context.name == "h264"
        assert sum(1 for _ in film.decode(film.streams.video[0])) == 41
    assert PillowImage.open(io.BytesIO(ask(port, "/thumb/1")[1])).size == (2 * 128, 96)
    status, part = ask(port, "/clip/1", Range="bytes=10-19")
    assert status == 206 and len(part) == 10


def test_edits_become_the_labels_of_a_preparation(root, port, tmp_path):
    before = digest_of(root)
    status, told = ask(port, "/episodes/1", {"subtasks": CUT})
    assert status == 200 and json.loads(told)["source"] == "edited" and json.loads(told)["subtasks"] == CUT
    assert ask(port, "/episodes/3", {"keep": False})[0] == 200
    assert json.loads(ask(port, "/episodes")[1])[3]["keep"] is False
    assert digest_of(root) != before, "a set prepared before is not taken for this one"
    buffer = ReplayBuffer.open(
        prepare(PrepareConfig(dataset=str(root), out=tmp_path / "out", image_size=32, workers=0))
    )
    assert [meta["seed"] for meta in buffer.metadata] == [0, 1, 2]
    meta = buffer.metadata[1]
    assert (meta["subtasks"], meta["starts"], meta["keyframes"]) == (["take it", "bring it"], [0, 20], [12, 40])
    assert "left out: episode 3, discarded" in (tmp_path / "out/segmentation.html").read_text()
    assert ask(port, "/episodes/3", {"keep": True})[0] == 200 and set(read_edits(root)) == {1}


def test_impossible_subtasks_are_refused_and_nothing_is_written(root, port):
    for wrong, said in (
        ([{**CUT[0], "start": 3}], "must start at 0"),
        ([{**CUT[0], "words": " "}], "no words"),
        ([CUT[0], {**CUT[1], "start": 12}], "must lie within"),
        ([{**CUT[0], "keyframe": 41}], "must lie within"),
        ([{"words": "take it"}], "lacks start"),
        ("all", "must be a list"),
    ):
        status, told = ask(port, "/episodes/1", {"subtasks": wrong})
        assert status == 400 and said in json.loads(told)["error"], told
    assert ask(port, "/episodes/1", ["keep"])[0] == 400 and ask(port, "/episodes/9", {"keep": False})[0] == 400
    assert not (root / EDITS).exists()


def test_only_its_own_page_may_ask(root, port):
    assert ask(port, "/episodes/1", {"keep": False}, Origin="http://elsewhere.org")[0] == 403
    assert ask(port, "/episodes", Host=f"elsewhere.org:{port}")[0] == 403
    assert ask(port, "/episodes/1", {"keep": False}, **{"Content-Type": "text/plain"})[0] == 415
    assert ask(port, "/../meta/info.json")[0] == 404 and not (root / EDITS).exists()
    assert ask(port, "/episodes/1", {"keep": False}, Origin=f"http://127.0.0.1:{port}")[0] == 200


def test_a_taken_port_is_told(root, port):
    with pytest.raises(SystemSetupError, match="give another port="):
        make_server(DatasetView(ViewConfig(dataset=str(root), workers=0)), port)


def test_damaged_edits_are_named(root):
    write_edit(root, 0, EpisodeEdit(subtasks=(EditedSubtask(words="a", start=0, keyframe=40),)), 41)
    with pytest.raises(InvalidValueError, match="must lie within"):
        write_edit(root, 0, EpisodeEdit(subtasks=(EditedSubtask(words="a", start=0, keyframe=41),)), 41)
    assert read_edits(root)[0].subtasks[0].keyframe == 40
    (root / EDITS).write_text('{"episodes": {"0": {"keep": 3}}}')
    with pytest.raises(DataError, match="remove it to begin again"):
        read_edits(root)
