"""What queues GPU jobs and lets them go, on the Kubernetes API: native, Kueue, Volcano."""
