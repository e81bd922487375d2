"""A stand-in for NVIDIA's libnvidia-ml.so.1: real pynvml calls it, a state file says what it answers."""
