"""Certificates of the operator in files that may be replaced at any time: the modules "publiccertificate" and "kubeletcertificate"."""
