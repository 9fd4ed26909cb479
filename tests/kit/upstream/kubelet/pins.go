//go:build pins

// Imported here so that go.mod and go.sum name all that it needs.
package kubelet

import _ "k8s.io/kubernetes/cmd/kubelet"
