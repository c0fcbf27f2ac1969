"""The commands of docs/lerobot.md, run as they are printed; what is appended makes them short only."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from lerobot_sets import small_episode, write_set

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "emu_robot/lerobot/plugin"
SHORTER = {
    "emu-robot": (),
    "lerobot-eval": ("--env.task=open_drawer", "--eval.n_episodes=1", "--eval.batch_size=1"),
    "lerobot-train": ("--steps=1", "--batch_size=2", "--num_workers=0", "--dataset.video_backend=pyav"),
    "lerobot-record": ("--dataset.num_episodes=1", "--dataset.episode_time_s=2", "--play_sounds=false"),
}


def printed_commands() -> list[list[str]]:
    """The words of every command in the first block of docs/lerobot.md, without the remarks beside them."""
    block = (ROOT / "docs/lerobot.md").read_text().split("```")[1].replace("\\\n", " ")
    lines = [line.split("                ")[0] for line in block.strip().splitlines()]
    return [shlex.split(line) for line in lines]


def run(words: list[str], folder: Path) -> str:
    program = Path(sys.executable).with_name(words[0])
    environment = os.environ | {
        "HF_LEROBOT_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join([str(PLUGIN), *sys.path]),
    }  # fmt: skip
    more = SHORTER[words[0]]
    answer = subprocess.run(
        [program, *words[1:], *more], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, f"{shlex.join(words)}: {answer.stderr[-3000:]}"
    return answer.stdout + answer.stderr


@pytest.mark.slow
def test_the_commands_run_as_printed(tmp_path):
    episodes = [small_episode(seed, n_subtasks=1) for seed in range(3)]
    write_set(tmp_path / "hub/me/my_set", episodes, cameras=("top",), size=(128, 128))
    commands = printed_commands()
    assert [words[0] for words in commands] == list(SHORTER)
    for words in commands:
        run(words, tmp_path)
    assert (tmp_path / "outputs/mini/manifest.json").exists()
    assert list((tmp_path / "outputs/train").rglob("checkpoints/000001/pretrained_model/head.safetensors"))
    assert (tmp_path / "hub/me/drawer/meta/info.json").exists()


@pytest.mark.slow
def test_what_was_recorded_trains(tmp_path):
    """Its pictures have the size that the released weights take."""
    _, _, train, record = printed_commands()
    run(record, tmp_path)
    words = [word.replace("me/my_set", "me/drawer").replace("=top", "=front") for word in train]
    run(words, tmp_path)
    assert list((tmp_path / "outputs/train").rglob("checkpoints/000001/pretrained_model/head.safetensors"))
