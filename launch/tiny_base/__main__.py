"""Pre-trains the tiny base: ``python -m launch.tiny_base --out models/tiny-qwen2_5-vl``.

About two hours on two cores: renders scenes that no board uses, trains the vision tower on what each patch
shows, then the language model on questions about the photo.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from dataset_builders.task_card import load_task_card

VOCABULARY = 1500
SEED = 7


def main() -> None:
    """Run the steps in order; rendered scenes and the trained tower are kept in the work directory and reused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint directory to write")
    parser.add_argument("--work", type=Path, default=Path("data/pretrain"), help="rendered scenes, about 10 GB")
    parser.add_argument("--scenes", type=int, default=36_000)
    parser.add_argument("--cards", type=Path, nargs="+", default=sorted(Path("recipes/tasks").glob("*.yaml")))
    args = parser.parse_args()

    import torch

    from launch.tiny_base.checkpoint import build_model, build_tokenizer, save_checkpoint
    from launch.tiny_base.language import pretrain_language, tokenizer_texts
    from launch.tiny_base.scenes import render_scenes
    from launch.tiny_base.vision import pretrain_vision

    torch.set_num_threads(1)
    say = partial(print, flush=True)  # pickles, as a function of this module would not
    cards = [load_task_card(path) for path in args.cards]
    tokenizer = build_tokenizer(tokenizer_texts(cards), VOCABULARY)
    model = build_model(tokenizer, SEED)
    render_scenes(args.work, args.scenes)
    tower = args.work / "tower.pt"
    if tower.exists():
        model.model.visual.load_state_dict(torch.load(tower))
    else:
        pretrain_vision(model.model.visual, args.work, SEED, say)
        torch.save(model.model.visual.state_dict(), tower)
    pretrain_language(model, tokenizer, args.work, cards, SEED, say)
    save_checkpoint(args.out, model, tokenizer)


if __name__ == "__main__":
    main()
