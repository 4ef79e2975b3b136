package desired

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/spec"
)

// NewReceipt returns the part of a receipt that the Installer decides: name,
// versions and console. earlier is the receipt that it replaces, zero for none: the
// time of the first install stays.
func NewReceipt(in *spec.Installer, earlier journal.Receipt, now time.Time) (journal.Receipt, error) {
	digest, err := in.Digest()
	if err != nil {
		return journal.Receipt{}, err
	}
	r := journal.Receipt{Name: in.Metadata.Name, Installer: digest, Versions: map[string]string{"k0s": in.Spec.K0s.Version},
		InstalledAt: earlier.InstalledAt, UpdatedAt: now.UTC()}
	if r.InstalledAt.IsZero() {
		r.InstalledAt = r.UpdatedAt
	}
	for _, pin := range in.AddOns() {
		r.Versions[pin.Key] = pin.Version
	}
	r.Console = ConsoleRecord(in)
	return r, nil
}

// ConsoleRecord returns what is recorded of the console, the zero value for a cluster without one.
func ConsoleRecord(in *spec.Installer) journal.Console {
	k := in.Spec.Kotsadm
	if k == nil {
		return journal.Console{}
	}
	return journal.Console{Namespace: k.Namespace, Port: k.UIBindPort, Hostname: k.Hostname, Slug: k.ApplicationSlug}
}

// IsRecorded reports whether r says that the bundle is installed, and on which host: builds
// that recorded no machine id or address wrote receipts that a converged run completes.
func IsRecorded(r journal.Receipt, bundle digest.Digest) bool {
	return r.Bundle == bundle.String() && r.Node != "" && r.MachineID != "" && r.Address != ""
}
