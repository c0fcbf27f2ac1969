"""A replay buffer of toy pictures: coloured squares that move about a grey picture as the words say."""

from pathlib import Path

import numpy as np

from emu_robot.data.episode import Episode
from emu_robot.data.replay_buffer import ReplayBuffer

SIZE = 32
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
PLACES = {"left": (4, 4), "right": (4, 20), "front": (20, 4)}


def picture(where: dict[str, str]) -> np.ndarray:
    image = np.full((SIZE, SIZE, 3), 180, np.uint8)
    for i, (colour, place) in enumerate(where.items()):
        row, column = PLACES[place]
        image[row + 4 * i : row + 4 * i + 4, column : column + 6] = COLOURS[colour]
    return image


def episode(seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    where = {colour: str(rng.choice(list(PLACES))) for colour in COLOURS}
    n_subtasks = int(rng.integers(1, 3))
    subtasks, images = [], [picture(where)]
    for colour in rng.permutation(list(COLOURS))[:n_subtasks]:
        where[colour] = str(rng.choice([place for place in PLACES if place != where[colour]]))
        subtasks.append(f"move the {colour} square {where[colour]}")
        images += [images[-1], picture(where), picture(where)]
    frames = np.arange(len(images), dtype=np.int32) * 5
    return Episode(
        instruction=" then ".join(subtasks),
        family="move",
        split="seen",
        seed=seed,
        success=True,
        fps=20,
        subtasks=tuple(subtasks),
        keyframes=frames[2::3][:n_subtasks],
        starts=np.concatenate([[0], frames[3::3][: n_subtasks - 1]]).astype(np.int32),
        state=np.zeros((int(frames[-1]) + 1, 8), np.float32),
        action=np.zeros((int(frames[-1]) + 1, 8), np.float32),
        image_frames=frames,
        images={"front": np.stack(images)},
    )


def toy_buffer(path: Path, n: int) -> ReplayBuffer:
    buffer = ReplayBuffer.create(path)
    buffer.extend([episode(seed) for seed in range(n)])
    return buffer
