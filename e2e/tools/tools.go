//go:build tools

// Package tools names the programs of the real control plane, so that go.mod and go.sum hold their exact
// versions. It has no code of its own; e2e/src/tools.rs builds what it names.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "helm.sh/helm/v4/cmd/helm"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
)
