"""`emu-robot VERB key=value ...`: find the verb, run it, turn errors into one line. Imports nothing heavy."""

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from emu_robot.errors import EmuRobotError, UnknownNameError
from emu_robot.shared.interrupts import interruptible

VERBS = {
    "doctor": "check this machine; doctor ros: also the graph of a robot",
    "demo": "run long-horizon episodes with the released weights and write a report",
    "plan": "show the planner's plan for a picture and an instruction",
    "generate": "words and pictures from an official Emu3.5 checkpoint: task=t2i|x2i|howto|story|explore|vla",
    "imagine": "imagine many subtasks ahead, and compare with the simulator",
    "eval": "measure a policy and write a report",
    "bench": "list|install|run NAME: established benchmarks, each by one command",
    "report": "compare evaluations, with intervals and an exact test, on one page: runs=a,b",
    "measure": "completion|keyframes|language|planner|tokenizer: measure a part or an ability",
    "collect": "record demonstrations by the scripted experts",
    "train": "train one stage: stage=tokenizer|planner|dida|head|world_model",
    "finetune": "train planner and head on a LeRobotDataset",
    "train-mini": "make the released weights: collect, train all stages, release",
    "data": "check|view|prepare|repair|encode|merge|merge-sets|export|from-mcap: datasets, recordings, replay buffers",
    "teleop": "drive an arm from a page, a phone, a gamepad or the terminal, and record episodes",
    "watch": "watch a policy think on a page that commands nothing: in simulation, or graph=sim|arm",
    "serve-vla-eval": "let vla-eval's benchmarks play a policy",
    "to-lerobot": "write weights as a checkpoint for LeRobot's commands",
    "bringup": "start the ROS 2 nodes of a graph: graph=sim|arm robot=...",
    "sim": "bench: measure environment steps per second on one core",
}
EXTRAS = {
    "starlette": "teleop",
    "uvicorn": "teleop",
    "websockets": "teleop",
    "lerobot": "train",
    "datasets": "train",
    "pyarrow": "train",
    "metaworld": "bench",
    "accelerate": "emu35",
    "bitsandbytes": "emu35",
    "psutil": "emu35",
    "tiktoken": "emu35",
    "peft": "train",
    "rosbags": "ros",
    "vla_eval": "vla-eval",
    "ray": "ray",
}
USAGE = """usage: emu-robot [--debug] VERB [--help] [key=value ...]
       emu-robot help [VERB] | --version"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit status: 0 done, 1 a typed error, 2 wrong usage, 130 SIGINT, 143 SIGTERM."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"emu-robot {version('emu_robot')}")
        return 0
    try:
        with interruptible():
            return _load(words[0]).run(words[1:]) or 0
    except EmuRobotError as error:
        _explain(f"error: {error}", debug)
        return 1
    except ModuleNotFoundError as error:
        _explain(f"error: the package {error.name!r} is not installed; get it: {_source_of(error.name)}", debug)
        return 1
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _explain(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", debug)
        return 1
    except KeyboardInterrupt as error:
        _explain(str(error) or "interrupted", debug)
        return 128 + getattr(error, "number", signal.SIGINT)


def _load(verb: str) -> Any:
    """The module of a verb; its `run(arguments)` returns an exit status or None."""
    if verb not in VERBS:
        raise UnknownNameError("verb", verb, VERBS)
    return importlib.import_module("emu_robot.cli." + verb.replace("-", "_"))


def _source_of(module: str | None) -> str:
    """The command that installs a package: an extra, or the whole set-up."""
    extra = EXTRAS.get((module or "").split(".")[0])
    return f"in the checkout: pip install -e '.[{extra}]'" if extra else "make setup"


def _explain(line: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(" ".join(line.split()), file=sys.stderr)


def _help() -> str:
    width = max(map(len, VERBS))
    return "\n".join([USAGE, "", *(f"  {verb:<{width}}  {about}" for verb, about in VERBS.items())])
