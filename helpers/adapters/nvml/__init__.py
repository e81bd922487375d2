"""NVML through nvidia-ml-py."""
