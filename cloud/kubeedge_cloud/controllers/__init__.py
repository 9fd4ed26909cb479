"""What makes pods of Deployments, places them and cleans up: the controllers of Kubernetes that an edge needs."""
