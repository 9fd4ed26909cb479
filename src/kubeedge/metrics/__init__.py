"""GET /metrics of a process, with /healthz and /readyz.

Lives elsewhere: metrics as values and their text (kubeedge.kit.metrics), which there are (kubeedge.agent.metrics, kubeedge_cloud.status.metrics).
"""
