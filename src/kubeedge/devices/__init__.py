"""The devices of this node: their twins in the store, and the topics of KubeEdge on MQTT by which mappers and programs use them."""
