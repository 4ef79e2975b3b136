package addons

import (
	"fmt"
	"slices"
)

// PodSecurity is what the pods of a namespace may do, as levels of the Pod Security Standards.
type PodSecurity struct {
	Enforce string `yaml:"enforce"` // pods above this level are refused
	Warn    string `yaml:"warn"`    // pods above this level cause a warning, and an annotation in the audit log
}

// check returns an error unless both levels are known.
func (p PodSecurity) check() error {
	for _, level := range []string{p.Enforce, p.Warn} {
		if !slices.Contains([]string{"privileged", "baseline", "restricted"}, level) {
			return fmt.Errorf("%q is not a level of the Pod Security Standards", level)
		}
	}
	return nil
}

// Labels returns the labels of a namespace that set the levels.
func (p PodSecurity) Labels() map[string]string {
	const prefix = "pod-security.kubernetes.io/"
	return map[string]string{prefix + "enforce": p.Enforce, prefix + "warn": p.Warn, prefix + "audit": p.Warn}
}
