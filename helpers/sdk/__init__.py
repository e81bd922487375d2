"""What applications use: the worker-side helpers of the coordinator's lanes."""
