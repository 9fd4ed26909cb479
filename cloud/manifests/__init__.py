"""Plain manifests of the cloud side, rendered from the chart (`make manifests`)."""
