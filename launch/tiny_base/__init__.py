"""The tiny Qwen2.5-VL that proves the whole way on a CPU, and the script that pre-trained it."""
