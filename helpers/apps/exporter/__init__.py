"""The exporter: reads GPUs and says whose memory is whose. Read-only."""
