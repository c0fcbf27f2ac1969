"""`emu-robot generate task=… prompt="…" [image=a.png,b.png] out=…`: an official checkpoint's answer as one page.

Tasks: t2i (words to a picture), x2i (pictures and words to a picture), howto, story, explore and vla (words and
pictures in turn). Words and pictures are written as they complete: a page, the pictures as PNG and answer.json.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emu_robot.cli.options import configure
from emu_robot.core import Image
from emu_robot.emu35.answer import End, Words
from emu_robot.emu35.config import Task, WorldModelConfig
from emu_robot.errors import InvalidValueError

SINGLE = (Task.t2i, Task.x2i)
"""Tasks of one picture, which have official weights of their own."""


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(WorldModelConfig):
    """Settings of `emu-robot generate`."""

    task: Task = Task.story
    """t2i, x2i, howto, story, explore or vla."""
    prompt: str = ""
    """The question in words."""
    image: tuple[Path, ...] = ()
    """Input pictures, in the order in which the model sees them."""
    weights: str = ""
    """Folder or hub id of the checkpoint; empty: BAAI/Emu3.5-Image for t2i and x2i, else BAAI/Emu3.5."""
    out: Path = Path("outputs/generate")
    """Folder of the answer."""

    def check(self) -> None:
        """Raise `InvalidValueError` unless the task's inputs are given."""
        if not self.prompt.strip():
            raise InvalidValueError('prompt= is missing: prompt="…" says in words what is asked')
        if self.task == Task.x2i and not self.image:
            raise InvalidValueError("task=x2i changes pictures: image=a.png,b.png says which")
        if self.task == Task.t2i and self.image:
            raise InvalidValueError("task=t2i draws from words alone; task=x2i reads pictures")


def run(arguments: Sequence[str]) -> None:
    """Print words as they complete, and write the page with the pictures."""
    config: GenerateConfig | None = configure("generate", arguments)
    if config is None:
        return
    config.check()
    from emu_robot.observation.image_file import read_picture

    pictures = [read_picture(path) for path in config.image]
    from emu_robot.emu35.answer_page import write_answer
    from emu_robot.emu35.world_model import load_world_model

    weights = config.weights or ("BAAI/Emu3.5-Image" if config.task in SINGLE else "BAAI/Emu3.5")
    model = load_world_model(weights, config)
    parts = _told(model.generate(config.prompt, pictures, config))
    about = {"task": config.task, "weights": weights, "seed": config.generation.seed}
    print(f"page: {write_answer(config.out, config.prompt, pictures, parts, **about)}")


def _told(parts: Iterator[Words | Image | End]) -> Iterator[Words | Image | End]:
    """The same parts, each printed on a line."""
    for part in parts:
        if isinstance(part, Words):
            print(f"{part.role.replace('_', ' ')}: {' '.join(part.text.split())}", flush=True)
        elif isinstance(part, End):
            print(f"end: {part.reason}{f' ({part.detail})' if part.detail else ''}", flush=True)
        else:
            print(f"picture: {part.shape[1]} x {part.shape[0]} px", flush=True)
        yield part
