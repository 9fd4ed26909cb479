"""Pods: how soon one runs, fifty at once beside containerd, a hundred that do nothing, and what each costs."""
