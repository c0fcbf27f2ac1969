#!/bin/sh
# Planner and action head on a LeRobotDataset, v2.1 or v3.0: sh docs/examples/finetune.sh [DATASET] [OUT] [STEPS]
# With 2 steps it shows that everything runs; a policy takes thousands. Look at OUT/report.html.
set -e
dataset=${1:-datasets/tabletop_sample} out=${2:-outputs/finetune} steps=${3:-2}

emu-robot finetune dataset="$dataset" out="$out" \
  planner.loop.steps="$steps" planner.holdout=0.25 planner.eval_queries=4 \
  dida.loop.steps="$steps" dida.holdout=0.25 dida.drawn_images=8 \
  head.loop.steps="$steps" head.holdout=0.25
emu-robot plan weights="$out/weights" tasks=open_drawer max_steps=1 out="$out/plan.png"
