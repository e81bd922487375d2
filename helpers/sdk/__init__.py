"""What applications use: the worker-side helpers of the coordinator's lanes, and leases for what is in no queue."""
