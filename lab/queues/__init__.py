"""Job queues in the lab: applications on real BullMQ clients, coordinators as processes, a network that stalls."""
