"""The cloud side in somebody's Kubernetes: the chart rendered, applied, waited for, examined and removed, without Helm."""
