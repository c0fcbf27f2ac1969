"""Compares random windows of frames: our training cache, LeRobotDataset with videos, and with pictures.

python benchmarks/data_loading.py [--episodes 12] [--window 16] [--windows 200] [--out outputs/data_loading]

All hold the same episodes and use one process with one thread. They take turns, so that other load on the machine
affects all of them. Figures are medians over the turns. A frame has two cameras of 128 px, state and action.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from emu_robot.data.collect import CollectConfig, collect
from emu_robot.data.replay_buffer import ReplayBuffer

os.environ["HF_HUB_OFFLINE"] = "1"

TURNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--window", type=int, default=16)
    parser.add_argument("--windows", type=int, default=200, help="of each turn; LeRobot's are drawn a tenth as often")
    parser.add_argument("--out", type=Path, default=Path("outputs/data_loading"))
    wanted = parser.parse_args()
    readers = make_readers(wanted.out, wanted.episodes, wanted.window)
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for turn in range(TURNS):
        for name, (count, read) in readers.items():
            windows = wanted.windows if name == "cache" else wanted.windows // 10
            starts = np.random.default_rng(turn).integers(count, size=windows).tolist()
            begin = time.perf_counter()
            for start in starts:
                read(start)
            rates[name].append(windows * wanted.window / (time.perf_counter() - begin))
    print("| storage | frames/s | cache is faster by |\n|---|---|---|")
    for name, values in rates.items():
        rate, ours = statistics.median(values), statistics.median(rates["cache"])
        print(f"| {name} | {rate:.0f} | {ours / rate:.1f}x |")


def make_readers(out: Path, n: int, window: int) -> dict[str, tuple[int, Callable[[int], object]]]:
    """Name -> number of windows, and a function that reads the window with a given start."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    folder = collect(CollectConfig(families=("all",), n=n, seed=6_000_000, out=out / "cache", image_every=1))
    buffer = ReplayBuffer.open(folder)
    images = {camera: buffer.images(camera) for camera in buffer.cameras}
    numbers = [buffer.load("frames/state"), buffer.load("frames/action")]

    def cached(start: int) -> object:
        rows = np.arange(start, start + window)
        return [source[rows] for source in (*images.values(), *numbers)]

    readers: dict[str, tuple[int, Callable[[int], object]]] = {"cache": (buffer.n_frames - window, cached)}
    pictures = write_pictures(out / "pictures", buffer)
    for name, root in (("LeRobotDataset, H.264 video", out / "cache_lerobot"), ("LeRobotDataset, PNG", pictures)):
        keys = [*(f"observation.images.{camera}" for camera in buffer.cameras), "observation.state", "action"]
        stamps = {key: [t / 20 for t in range(window)] for key in keys}
        dataset = LeRobotDataset("local/set", root=root, delta_timestamps=stamps)
        readers[name] = (len(dataset) - window, dataset.__getitem__)
    return readers


def write_pictures(root: Path, buffer: ReplayBuffer) -> Path:
    """The same episodes as a LeRobotDataset with PNG pictures."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    if (root / "meta/info.json").exists():
        return root
    layout, size = buffer.layout, (128, 128, 3)
    features = {
        "observation.state": {"dtype": "float32", "shape": (len(layout.state_names),), "names": layout.state_names},
        "action": {"dtype": "float32", "shape": (len(layout.action_names),), "names": layout.action_names},
        **{
            f"observation.images.{camera}": {"dtype": "image", "shape": size, "names": ["height", "width", "channels"]}
            for camera in buffer.cameras
        },
    }
    dataset = LeRobotDataset.create("local/pictures", fps=20, features=features, root=root, use_videos=False)
    for i in range(buffer.n_episodes):
        episode = buffer.episode(i)
        images = {camera: episode.images[camera] for camera in buffer.cameras}
        for t in range(len(episode)):
            frame = {f"observation.images.{camera}": images[camera][t] for camera in images}
            numbers = {"observation.state": episode.state[t], "action": episode.action[t]}
            dataset.add_frame(frame | numbers | {"task": episode.instruction})
        dataset.save_episode()
    dataset.finalize()
    return root


if __name__ == "__main__":
    main()
