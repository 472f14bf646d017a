#!/usr/bin/env bash
# Does averaging over the mirror image help what is submitted? Every stage of the board predicts validation and test photos
# once more with `--views flip`, at twice the passes; both arms are fused on validation photos alone, because fold models
# predict one view. `make board` (and `benchmarks/board_seeds.sh` for more seeds) must be complete, with its adapters.
# About 8 minutes a seed on 2 cores; goes on where it was stopped.
#
#   benchmarks/views.sh board board_seed1
#   python benchmarks/second_look.py --arm one_view runs/board*/one_view --arm flip runs/board*/flip
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
task=recipes/tasks/corridor.yaml data=data/corridor_augmented

for name in "$@"; do
  for stage in base high_risk clutter objects; do
    riskfuse predict --recipe "runs/board/recipes/$stage.yaml" --task "$task" --stage "$stage" --data "$data" \
      --adapter "saves/$name/$stage" --out "predictions/$name/${stage}_flip" --engine ray --workers 2 --views flip
  done
  for arm in one_view flip; do
    suffix=_flip
    [ "$arm" = flip ] || suffix=
    riskfuse fuse "$data" --task "$task" --base "predictions/$name/base$suffix" \
      --specialist high_risk="predictions/$name/high_risk$suffix" \
      --specialist clutter="predictions/$name/clutter$suffix" --specialist objects="predictions/$name/objects$suffix" \
      --label-errors 0.02 --out "runs/$name/$arm"
  done
done
