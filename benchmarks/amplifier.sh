#!/usr/bin/env bash
# Does the hazard amplifier help? Specialist high_risk with it, as the board has it, and without it, at equal steps on the
# same photos, several training seeds, everything else the board's. `make board` and `benchmarks/board_seeds.sh` for these
# seeds must be complete. Both arms are fused on validation photos alone, because the plain one has no fold models. About 6
# minutes a seed on 2 cores; goes on where it was stopped.
#
#   benchmarks/amplifier.sh board board_seed1 board_seed2
#   python benchmarks/second_look.py --arm plain runs/board*/plain --arm amplified runs/board*/amplified
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
export FORCE_TORCHRUN=1 NPROC_PER_NODE=2 DS_ACCELERATOR=cpu
task=recipes/tasks/corridor.yaml data=data/corridor_augmented

for name in "$@"; do
  seed=${name#board} seed=${seed#_seed} seed=${seed:-42} # make board trains with seed 42
  recipe=runs/$name/high_risk_plain.yaml
  mkdir -p "runs/$name"
  sed -e 's|^model_name_or_path: .*|model_name_or_path: models/tiny-qwen2_5-vl|' -e '/^trust_remote_code: /d' \
    -e '/^additional_target: /d' -e "s|^output_dir: .*|output_dir: saves/$name/high_risk_plain|" \
    -e "s|^seed: .*|seed: $seed|" runs/board/recipes/high_risk.yaml >"$recipe"
  if [ ! -e "saves/$name/high_risk_plain/trainer_state.json" ]; then
    llamafactory-cli train "$recipe"
  fi
  riskfuse predict --recipe "$recipe" --task "$task" --stage high_risk --data "$data" \
    --adapter "saves/$name/high_risk_plain" --out "predictions/$name/high_risk_plain" --engine ray --workers 2
  for arm in plain amplified; do
    looks=predictions/$name/high_risk
    [ "$arm" = amplified ] || looks=${looks}_plain
    riskfuse fuse "$data" --task "$task" --base "predictions/$name/base" --specialist high_risk="$looks" \
      --specialist clutter="predictions/$name/clutter" --specialist objects="predictions/$name/objects" \
      --out "runs/$name/$arm"
  done
done
