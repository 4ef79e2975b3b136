package desired

import (
	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/registry"
	"github.com/plinthdev/plinth/internal/spec"
)

// BuiltinRegistry returns the registry that the Installer in adds to the cluster, without
// a client of the cluster; nil if it adds none.
func BuiltinRegistry(in *spec.Installer, dataDir string) (*registry.Registry, error) {
	parts, err := addons.Resolve(in, dataDir)
	for _, p := range parts {
		if p.Name == "registry" {
			ip, _ := p.Values["clusterIP"].(string)
			return &registry.Registry{Namespace: p.Namespace, IP: ip, Domain: p.ClusterDomain, HostsDir: k0s.RegistryDir}, err
		}
	}
	return nil, err
}
