"""The writes of this node that wait for the cloud, and what becomes of them: the module "edgewrites"."""
