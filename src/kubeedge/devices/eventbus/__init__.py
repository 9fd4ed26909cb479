"""KubeEdge's topics about devices on the embedded MQTT broker: the module "eventbus"."""
