"""Scores photos at an OpenAI-compatible endpoint: what is sent, what is read from its log-probabilities, retries."""
