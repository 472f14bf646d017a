"""Predictions of two stages in, one calibrated decision out. Needs neither torch nor ray."""
