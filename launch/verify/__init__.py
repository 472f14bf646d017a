"""Judges of augmented copies that load a model of their own."""

from launch.verify.dual_encoder import DualEncoderJudge
from launch.verify.label_texts import label_texts

__all__ = ["DualEncoderJudge", "label_texts"]
