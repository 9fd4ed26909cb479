"""The operator's own certificate for the public listener: the module "publiccertificate"."""
