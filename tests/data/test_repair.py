"""`emu-robot data repair`: sets that a crash left behind, LeRobot's own and ours, give their whole episodes back."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_sets import edit_column, edit_json, small_episode, write_set

from emu_robot.cli.main import main
from emu_robot.data.lerobot_files import LeRobotFiles
from emu_robot.data.parquet_salvage import salvage
from emu_robot.data.repair import repair
from emu_robot.errors import DataError

KEY = "observation.images.front"
FEATURES: dict[str, dict[str, Any]] = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
    "action": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
    "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    "map": {"dtype": "float32", "shape": (2, 2), "names": None},
}
LENGTHS = (12, 7, 20)


def numbers(i: int, t: int) -> np.ndarray:
    return np.array([i, t, 100 * i + t], np.float32)


def frames(i: int, n_frames: int) -> Iterator[dict[str, Any]]:
    shade = np.linspace(0, 90, 64)[:, None]
    for t in range(n_frames):
        yield {
            "task": ("open it", "shut it")[i % 2],
            "observation.state": numbers(i, t),
            "action": numbers(i, t) + 1,
            "next.done": np.array([t == n_frames - 1]),
            "map": np.full((2, 2), t, np.float32),
            KEY: np.broadcast_to(20 + 40 * i + t + shade, (48, 64, 3)).astype(np.uint8),
        }


@pytest.fixture(scope="module", params=["video", "image"])
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeRobot's own recording of three episodes as it is on the disk while a fourth one runs: without finalize()."""
    root = tmp_path_factory.mktemp("killed") / "set"
    features = FEATURES | {
        KEY: {"dtype": request.param, "shape": (48, 64, 3), "names": ["height", "width", "channels"]}
    }
    dataset = LeRobotDataset.create(
        "local/set", 10, features, root=root, robot_type="small", streaming_encoding=request.param == "video",
        use_videos=request.param == "video", rgb_encoder=RGBEncoderConfig(vcodec="h264", preset="ultrafast"),
    )  # fmt: skip
    for i, n_frames in enumerate(LENGTHS):
        for one in frames(i, n_frames):
            dataset.add_frame(one)
        dataset.save_episode()
    for one in frames(3, 5):
        dataset.add_frame(one)
    broken = root.with_name("broken")
    shutil.copytree(root, broken)
    dataset.clear_episode_buffer()
    dataset.finalize()
    with pytest.raises(pa.ArrowException):
        pq.read_table(broken / "data/chunk-000/file-000.parquet")
    assert not list((broken / "meta/episodes").rglob("*.parquet")), "rows of episodes were in memory only"
    return broken


def test_what_lerobot_loses_without_finalize_comes_back(killed: Path, tmp_path: Path) -> None:
    out = repair(killed, str(tmp_path / "mended"))
    mended: Any = LeRobotDataset("local/mended", root=out)
    whole: Any = LeRobotDataset("local/set", root=killed.with_name("set"))
    assert (mended.num_episodes, mended.num_frames) == (3, sum(LENGTHS))
    for k in (0, 11, 12, 18, 19, 38):
        ours, theirs = mended[k], whole[k]
        assert ours.keys() == theirs.keys() and ours["task"] == theirs["task"]
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours if key != "task"), k
    for key, stats in whole.meta.stats.items():
        for name in ("min", "max", "mean", "std"):
            assert np.allclose(mended.meta.stats[key][name], stats[name], atol=0.02), (key, name)
    assert len(LeRobotFiles(out).episodes) == 3


def test_a_set_mended_can_be_recorded_on(killed: Path, tmp_path: Path) -> None:
    out = repair(killed, str(tmp_path / "mended"))
    dataset = LeRobotDataset.resume("local/mended", root=out)
    for one in frames(3, 5):
        dataset.add_frame(one)
    dataset.save_episode()
    dataset.finalize()
    again: Any = LeRobotDataset("local/mended", root=out)
    assert again.num_episodes == 4 and float(again[sum(LENGTHS)]["observation.state"][0]) == 3


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def skip_a_frame(root: Path) -> None:
    edit_column(
        root / "data/chunk-000/file-000.parquet", "frame_index", lambda v: [x + (k > 60) for k, x in enumerate(v)]
    )


BREAKS: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "totals": (lambda root: edit_json(root / "meta/info.json", total_episodes=0, total_frames=0), 3, ""),
    "no metadata of episodes": (lambda root: shutil.rmtree(root / "meta/episodes"), 3, ""),
    "metadata of episodes cut": (lambda root: cut(root / "meta/episodes/chunk-000/file-000.parquet"), 3, ""),
    "no statistics of it": (lambda root: edit_json(root / "meta/info.json", total_episodes=7), 3, ""),
    "rows jump": (skip_a_frame, 1, "episode 1 does not hold the rows that follow: frame_index jumps"),
    "half a video": (lambda root: cut(root / f"videos/{KEY}/chunk-000/file-000.mp4"), 0, "holds 0 of the"),
    "no video": (
        lambda root: shutil.rmtree(root / f"videos/{KEY}"),
        0,
        "there is no video of observation.images.front",
    ),
    "table cut": (lambda root: cut(root / "data/chunk-000/file-000.parquet"), 0, "no whole group of rows"),
    "no table": (lambda root: shutil.rmtree(root / "data"), 0, "there is no table of frames"),
    "info cut": (lambda root: cut(root / "meta/info.json"), 0, "copy this file from another set"),
}


@pytest.mark.parametrize("damage", BREAKS)
def test_the_longest_whole_prefix_is_recovered(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_set(tmp_path / "set", [small_episode(k) for k in range(3)], cameras=("front",))
    bring, n_whole, said = BREAKS[damage]
    bring(root)
    status = main(["data", "repair", f"dataset={root}"])
    told = "".join(capsys.readouterr())
    assert said in told, told
    out = root.with_name("set_repaired")
    if not n_whole:
        assert status == 1 and not out.exists()
        return
    assert status == 0 and f"recovered {n_whole} of at least" in told
    files = LeRobotFiles(out)
    assert [len(files.rows(episode)) for episode in files.episodes] == [len(small_episode(k)) for k in range(n_whole)]
    assert LeRobotDataset("local/set", root=out).num_episodes == n_whole
    assert json.loads((out / "meta/info.json").read_text())["total_frames"] == sum(e.length for e in files.episodes)


def test_nothing_is_written_for_a_whole_set_or_over_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_set(tmp_path / "set", [small_episode(0)], cameras=("front",))
    assert repair(root) == root and "nothing to repair" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match="already exists"):
        repair(root, str(tmp_path / "taken"))


def test_rows_of_an_unclosed_table_come_back_wherever_it_ends(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "x.parquet"

    def rows(n: int) -> pa.Table:
        cells = [{"bytes": rng.bytes(9000), "path": None} for _ in range(n)]
        return pa.table(
            {
                "state": pa.array(list(rng.normal(size=(n, 8)).astype(np.float32)), pa.list_(pa.float32(), 8)),
                "done": pa.array(rng.random(n) < 0.5),
                "again": pa.array(np.zeros(n, bool)),
                "text": [f"t{k % 3}" for k in range(n)],
                "picture": pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
                "index": np.arange(n),
            }
        )

    groups = [rows(n) for n in (30, 300, 2, 77)]
    with pq.ParquetWriter(path, groups[0].schema, compression="snappy", use_dictionary=True) as writer:
        ends = []
        for group in groups:
            writer.write_table(group)
            ends.append(path.stat().st_size)
        unclosed = path.read_bytes()
    for n_whole, end in [(4, len(unclosed)), (4, ends[3]), (3, ends[3] - 1), (2, ends[2] - 5), (1, ends[1] - 100_000)]:
        path.write_bytes(unclosed[:end])
        assert salvage(path, groups[0]).equals(pa.concat_tables(groups[:n_whole])), end
    path.write_bytes(unclosed + b"garbage" * 99)
    assert salvage(path, groups[0]).num_rows == 409
    path.write_bytes(unclosed[: ends[0] - 1])
    with pytest.raises(DataError, match="no whole group of rows"):
        salvage(path, groups[0])
