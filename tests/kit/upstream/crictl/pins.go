//go:build pins

// crictl wants other versions of Kubernetes' libraries than the control plane, so it is a module of its own.
package crictl

import _ "sigs.k8s.io/cri-tools/cmd/crictl"
