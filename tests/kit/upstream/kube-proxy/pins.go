//go:build pins

// Imported here so that go.mod and go.sum name all that it needs.
package kubeproxy

import _ "k8s.io/kubernetes/cmd/kube-proxy"
