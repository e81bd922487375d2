"""Helpers of gpumem: pure decisions (domain), their ports, the services on them, and thin apps."""
