"""Success with its interval, and a report with clips: python docs/examples/evaluate.py [FAMILY] [EPISODES] [OUT]"""

import sys
from pathlib import Path

from emu_robot import EvalConfig, evaluate


def main(family: str = "open_drawer", episodes: str = "4", out: str = "outputs/eval") -> None:
    # The same as: emu-robot eval tasks=open_drawer n=4 videos=1
    config = EvalConfig(policy="mini", tasks=[family], split="seen", n=int(episodes), seed=0, videos=1, out=Path(out))
    result = evaluate(config)
    for record in result.records:
        print(f"seed {record.seed}: {record.failure or 'done'} after {record.n_steps} steps, {record.instruction!r}")
    low, high = result.success.interval
    print(f"success {result.success.rate:.0%}, Wilson 95 % interval {low:.0%} to {high:.0%}")


if __name__ == "__main__":  # an evaluation's workers are processes, which import this file
    main(*sys.argv[1:])
