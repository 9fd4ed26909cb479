"""The cloud side in a user's Kubernetes cluster: the chart rendered, applied, waited for, examined and removed, without Helm."""
