//go:build pins

// Imported here so that go.mod and go.sum name all that it needs.
package sampleapiserver

import _ "k8s.io/sample-apiserver"
