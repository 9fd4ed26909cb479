//go:build pins

// metrics-server wants other versions of Kubernetes' libraries than the control plane, so it is a module of its own.
package metrics

import _ "sigs.k8s.io/metrics-server/cmd/metrics-server"
