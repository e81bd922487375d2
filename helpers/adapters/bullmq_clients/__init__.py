"""BullMQ's own clients, one Node process for each major version, started when it is first needed."""
