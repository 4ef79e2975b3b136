package spec

import "fmt"

// The type of the document that can be given as spec.hostPreflights.
const (
	preflightAPIVersion = "troubleshoot.sh/v1beta2"
	preflightKind       = "HostPreflight"
)

// PreflightLists are the collectors and analyzers of a HostPreflight, and their path in
// the Installer.
type PreflightLists struct {
	Path       string
	Collectors []map[string]any
	Analyzers  []map[string]any
}

// Lists returns the collectors and analyzers of h, which is either a spec or a whole
// document.
func (h HostPreflights) Lists() PreflightLists {
	const at = "spec.hostPreflights"
	if h.Spec != nil {
		return PreflightLists{at + ".spec", h.Spec.Collectors, h.Spec.Analyzers}
	}
	return PreflightLists{at, h.Collectors, h.Analyzers}
}

// Violations returns what makes h neither a spec nor a HostPreflight document.
func (h HostPreflights) Violations() (all []Violation) {
	fail := func(path, message, hint string) {
		all = append(all, Violation{Rule: "host-preflights", Path: "spec.hostPreflights" + path, Message: message, Hint: hint})
	}
	whole := h.APIVersion != "" || h.Kind != "" || h.Metadata != nil || h.Spec != nil
	switch {
	case !whole:
		return nil
	case h.APIVersion != preflightAPIVersion:
		fail(".apiVersion", fmt.Sprintf("%q is not %s", h.APIVersion, preflightAPIVersion), "a whole document is a HostPreflight of "+preflightAPIVersion)
	case h.Kind != preflightKind:
		fail(".kind", fmt.Sprintf("%q is not %s", h.Kind, preflightKind), "preflights of the cluster belong to the application's release")
	case h.Spec == nil:
		fail(".spec", "is missing", "put collectors and analyzers below spec, or remove apiVersion, kind and metadata")
	}
	if h.Collectors != nil || h.Analyzers != nil {
		fail("", "has collectors or analyzers beside the fields of a whole document", "put them below its spec")
	}
	return all
}
