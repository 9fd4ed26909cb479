//go:build pins

// Helm wants other versions of Kubernetes' libraries than the control plane, so it is a module of its own.
package helm

import _ "helm.sh/helm/v3/cmd/helm"
