"""`emu-robot bench list | install NAME | run NAME key=value ...`: established benchmarks, each by one command.

list: the benchmarks, and what each of them lacks on this machine.
install: get the packages of a benchmark; no installed package changes its version.
run: play it as `emu-robot eval` with the benchmark's settings; other keys override them. It needs a policy: weights,
     `lerobot:FOLDER`, or `expert` where the environment has one.

docs/BENCHMARKS.md has published figures beside ours.
"""

from collections.abc import Sequence

from emu_robot.cli.options import HELP, sub_verb
from emu_robot.errors import ConfigError

COMMANDS = ("list", "install", "run")


def run(arguments: Sequence[str]) -> None:
    """List, install or run a benchmark."""
    if not arguments or arguments[0] in HELP:
        print(__doc__)
        return
    command, rest = sub_verb("bench", COMMANDS, arguments)
    if command == "list":
        _list(rest)
        return
    if any(word in HELP for word in rest):
        print(__doc__)
        return
    names = [word for word in rest if "=" not in word]
    if len(names) != 1:
        from emu_robot.evaluation.benchmarks import BENCHMARKS

        raise ConfigError(f"bench {command} takes one name, got {len(names)}; known: {', '.join(BENCHMARKS)}")
    words = [word for word in rest if "=" in word]
    if command == "run":
        _run(names[0], words)
        return
    if words:
        raise ConfigError(f"bench install takes no settings, got {words[0]}")
    from emu_robot.evaluation.benchmarks import install

    print(install(names[0]))


def _list(rest: Sequence[str]) -> None:
    if rest:
        raise ConfigError(f"bench list takes nothing, got {rest[0]}")
    from emu_robot.evaluation.benchmarks import BENCHMARKS

    width = max(map(len, BENCHMARKS))
    for name, one in BENCHMARKS.items():
        print(f"{name:<{width}}  {one.about}")
        lacks = " and ".join(filter(None, (one.missing, one.by_hand and f"by hand: {one.by_hand}")))
        if lacks:
            print(f"{'':<{width}}  needs {lacks}")


def _run(name: str, words: Sequence[str]) -> None:
    from emu_robot.config import load_config
    from emu_robot.evaluation.benchmarks import benchmark
    from emu_robot.evaluation.rollouts import evaluate

    chosen = benchmark(name)
    given = {word.partition("=")[0] for word in words}
    if "policy" not in given and chosen.policy is None:
        raise ConfigError(f"policy= is missing: no released weights play {name}; give policy=WEIGHTS or lerobot:FOLDER")
    usual = [f"policy={chosen.policy}", *chosen.settings, f"out=outputs/bench/{name}"]
    config = load_config("eval", [*(word for word in usual if word.partition("=")[0] not in given), *words])
    print(config.command())
    evaluate(config)
