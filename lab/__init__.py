"""The embedded cluster: real Kubernetes from pinned Go modules, on loopback, for tests and the demo."""
