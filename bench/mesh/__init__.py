"""What Services at the edge cost, beside kube-proxy and dnsmasq."""
