#!/usr/bin/env bash
# What a finished board is worth on 5,000 scenes that are looked at for the first time: its models and its fitted fusion
# decide, nothing is fitted or chosen. `make board` (and `benchmarks/board_seeds.sh` for more seeds) must be complete, with
# its adapters. About 5 minutes a seed on 2 cores; goes on where it was stopped.
#
#   benchmarks/fresh_board.sh board board_seed1
#   python benchmarks/second_look.py --arm board runs/board/fresh runs/board_seed1/fresh --source board_c
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
task=recipes/tasks/corridor.yaml data=data/corridor_fresh

[ -e data/scenes_fresh/scenes.json ] || riskfuse scenes recipes/tiny/scenes_fresh.yaml --workers 2
[ -e "$data/build.json" ] || riskfuse build recipes/tiny/fresh_data.yaml
for name in "$@"; do
  for stage in base high_risk clutter objects; do
    riskfuse predict --recipe "runs/board/recipes/$stage.yaml" --task "$task" --stage "$stage" --data "$data" --splits test \
      --adapter "saves/$name/$stage" --out "predictions/$name/${stage}_fresh" --engine ray --workers 2
  done
  riskfuse fuse "$data" --task "$task" --base "predictions/$name/base_fresh" \
    --specialist high_risk="predictions/$name/high_risk_fresh" --specialist clutter="predictions/$name/clutter_fresh" \
    --specialist objects="predictions/$name/objects_fresh" --fitted "runs/$name/fusion" --out "runs/$name/fresh"
done
