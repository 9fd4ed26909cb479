"""DMI v1beta1, KubeEdge's gRPC between a node and its mappers: the module "dmi"."""
