"""The sample in datasets/ is what it says and can be made again; a zarr of diffusion_policy's becomes a dataset."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from huggingface_hub import DatasetCard
from zarr.storage import LocalStore, ZipStore

from emu_robot.data.prepare import PrepareConfig, prepare
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError, InvalidValueError, ShapeError, UnknownNameError

DATASETS = Path(__file__).parents[2] / "datasets"
SAMPLE = DATASETS / "tabletop_sample"
TABLE = "data/chunk-000/file-000.parquet"
LENGTHS = (12, 9, 14)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def recipe(name: str) -> Any:
    """The module of a recipe that is run by its path."""
    spec = importlib.util.spec_from_file_location(name, DATASETS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(root: Path) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("local/test", root=root, video_backend="pyav")


# The sample


def test_the_sample_is_small_and_has_a_card():
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*")) < 1_000_000
    data = DatasetCard.load(SAMPLE / "README.md").data.to_dict()
    assert (data["license"], data["task_categories"], data["tags"][0]) == ("apache-2.0", ["robotics"], "LeRobot")
    assert data["configs"] == [{"config_name": "default", "data_files": "data/*/*.parquet"}]


def test_the_sample_loads_and_becomes_a_training_cache(tmp_path):
    dataset, buffer = (
        load(SAMPLE),
        ReplayBuffer.open(prepare(PrepareConfig(dataset=str(SAMPLE), out=tmp_path / "out", workers=0))),
    )
    assert dataset.num_episodes == buffer.n_episodes == 4 and dataset.num_frames == buffer.n_frames
    assert buffer.cameras == ("front", "wrist") and min(np.diff(buffer.episode_ends, prepend=0)) >= 100
    assert [len(meta["subtasks"]) for meta in buffer.metadata] == [1, 1, 1, 2]
    frame, images = dataset[150], buffer.images("front")
    assert frame["task"] == buffer.metadata[1]["instruction"]
    assert np.array_equal(frame["action"], buffer.load("frames/action")[150])
    seen = frame["observation.images.front"].numpy().transpose(1, 2, 0) * 255
    assert np.abs(seen - images[150]).mean() < 1


@pytest.mark.slow
def test_the_sample_can_be_made_again(tmp_path):
    made = recipe("make_tabletop_sample").make_sample(tmp_path / "tabletop_sample")
    before, after = pq.read_table(SAMPLE / TABLE), pq.read_table(made / TABLE)
    assert before.schema.names == after.schema.names
    for name in before.schema.names:
        old, new = before.column(name).to_pylist(), after.column(name).to_pylist()
        if name in ("observation.state", "action"):
            np.testing.assert_allclose(new, old, atol=1e-5)  # of another processor's rounding
        else:
            assert new == old, name
    for file in ("README.md", "meta/info.json"):
        assert (made / file).read_text() == (SAMPLE / file).read_text()
    for file in ("meta/tasks.parquet", "meta/subtasks.parquet"):
        assert pq.read_table(made / file).equals(pq.read_table(SAMPLE / file))
    with pytest.raises(DataError, match="exists; remove it"):
        recipe("make_tabletop_sample").make_sample(made)


# A zarr as diffusion_policy has them


def arrays(dtype: Any = np.uint8) -> dict[str, np.ndarray]:
    """Smooth pictures that tell their frame by their shade, random numbers."""
    rng, n_frames = np.random.default_rng(0), sum(LENGTHS)
    shades = np.linspace(20, 180, 32)[:, None, None] + 2 * np.arange(n_frames)[:, None, None, None]
    return {
        "data/img": np.broadcast_to(shades, (n_frames, 32, 32, 3)).astype(dtype),
        "data/state": rng.normal(size=(n_frames, 3)).astype(np.float32),
        "data/action": rng.normal(size=(n_frames, 2)),
        "meta/episode_ends": np.cumsum(LENGTHS),
    }


def write_zarr(path: Path, values: dict[str, np.ndarray], version: Any = 2) -> Path:
    store = ZipStore(path, mode="w") if path.suffix == ".zip" else LocalStore(path)
    root = zarr.create_group(store, zarr_format=version)
    for name, value in values.items():
        root.create_array(name, data=value)
    store.close()
    return path


def convert(source: Path, out: Path, *more: str) -> Path:
    module = recipe("from_diffusion_policy_zarr")
    return module.convert(module.parsed([str(source), str(out), "--fps", "10", "--task", "push the T", *more]))


@pytest.mark.parametrize(("name", "version", "unit"), [("a.zarr", 2, 1.0), ("b.zarr.zip", 3, 255.0)])
def test_a_zarr_becomes_a_dataset(tmp_path, name, version, unit):
    given = arrays(np.float32)
    source = write_zarr(tmp_path / name, given | {"data/img": given["data/img"] / unit}, version)
    names = ("--camera", "top=img", "--state-names", "x,y,angle", "--license", "mit")
    root = convert(source, tmp_path / "set", *names)
    dataset, begin = load(root), 0
    assert dataset.num_frames == sum(LENGTHS) and dataset.fps == 10
    for episode, length in enumerate(LENGTHS):
        for t in (begin, begin + length - 1):
            frame = dataset[t]
            assert (frame["episode_index"], frame["task"]) == (episode, "push the T")
            for key in ("state", "action"):
                stored = frame["observation.state" if key == "state" else key]
                assert np.array_equal(stored, given[f"data/{key}"][t].astype(np.float32))
            seen = frame["observation.images.top"].numpy().transpose(1, 2, 0) * 255
            assert np.abs(seen - given["data/img"][t]).mean() < 2
        begin += length
    assert DatasetCard.load(root / "README.md").data.to_dict()["license"] == "mit"
    buffer = ReplayBuffer.open(prepare(PrepareConfig(dataset=str(root), out=tmp_path / "out", workers=0)))
    assert buffer.n_episodes == len(LENGTHS) and buffer.layout.state_names == ("x", "y", "angle")


def test_what_is_wrong_with_a_zarr_is_named(tmp_path):
    good, out = arrays(), tmp_path / "set"

    def given(name: str, **changes: Any) -> Path:
        return write_zarr(tmp_path / name, good | {key.replace("__", "/"): value for key, value in changes.items()})

    with pytest.raises(DataError, match=r"no\.zarr: no such file"):
        convert(tmp_path / "no.zarr", out)
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(DataError, match=r"text\.zip: not a readable zarr group"):
        convert(tmp_path / "text.zip", out)
    source = given("good.zarr")
    with pytest.raises(UnknownNameError, match="'data/rgb'; known: data/action, data/img, data/state"):
        convert(source, out, "--camera", "top=rgb")
    with pytest.raises(InvalidValueError, match="--camera is 'top', expected name=array"):
        convert(source, out, "--camera", "top")
    with pytest.raises(InvalidValueError, match="--action-names gives 1 names .*the array has 2"):
        convert(source, out, "--action-names", "x")
    with pytest.raises(DataError, match=r"episode_ends: .*\[12, 12\], expected ascending"):
        convert(given("ends.zarr", meta__episode_ends=np.array([12, 12])), out)
    with pytest.raises(DataError, match="data/state: 20 rows, meta/episode_ends ends at 35"):
        convert(given("short.zarr", data__state=good["data/state"][:20]), out)
    with pytest.raises(DataError, match="data/action: frame 3 holds values that are not finite"):
        holed = good["data/action"].copy()
        holed[3, 1] = np.nan
        convert(given("nan.zarr", data__action=holed), out)
    with pytest.raises(ShapeError, match="H and W even"):
        convert(given("odd.zarr", data__img=good["data/img"][:, :31]), out)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(DataError, match="exists; name a new folder"):
        convert(source, out)
