#!/bin/sh
# Our weights under LeRobot's own command: sh docs/examples/lerobot_eval.sh [TASKS] [EPISODES] [OUT]
set -e
tasks=${1:-open_drawer} episodes=${2:-1} out=${3:-outputs/lerobot}

emu-robot to-lerobot weights=mini out="$out/mini"
lerobot-eval --policy.path="$out/mini" --env.type=emu_tabletop --env.task="$tasks" \
  --eval.n_episodes="$episodes" --eval.batch_size=1 --seed=0 --output_dir="$out/eval"
