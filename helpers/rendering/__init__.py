"""The estate file in, ordered Kubernetes objects out. No Kubernetes client, no cdktf."""
