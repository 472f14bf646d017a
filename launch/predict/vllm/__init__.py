"""Starts and ends vLLM's OpenAI-compatible server, which lives in a Python environment of its own."""
