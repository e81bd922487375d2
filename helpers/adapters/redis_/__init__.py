"""Redis, and in it BullMQ's queues (read only) and the coordinator's own keys."""
