"""`make cloud-image`: the cloud side as an OCI image, built without a container daemon and without root."""
