package bundle

import (
	"context"
	"errors"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/sbom"
	"github.com/plinthdev/plinth/internal/problem"
)

// Attestations are the SBOM and the provenance statements of a bundle.
type Attestations struct {
	SBOM       sbom.Document    `json:"sbom"`       // SPDX 2.3
	Provenance []sbom.Statement `json:"provenance"` // in-toto, SLSA v1
}

// ReadAttestations returns the attestations of the bundle at path. It is a problem
// if the bundle has none.
func ReadAttestations(ctx context.Context, path string) (bill Attestations, err error) {
	b, err := airgap.Open(ctx, path)
	if err != nil {
		return bill, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	packed, has, err := b.Attestation(ctx, format.KindSBOM)
	if err != nil {
		return bill, err
	}
	lines, hasToo, err := b.Attestation(ctx, format.KindProvenance)
	if err != nil {
		return bill, err
	}
	if !has || !hasToo {
		return bill, problem.New(problem.ExitBundle, "read the SBOM of bundle "+path, errors.New("it has none"), "ask the vendor for a bundle that was built with a newer version of plinth")
	}
	if bill.SBOM, err = sbom.Decode(packed); err == nil {
		bill.Provenance, err = sbom.ParseStatements(lines)
	}
	if err != nil {
		err = problem.New(problem.ExitBundle, "read the SBOM of bundle "+path, err, "ask the vendor for a bundle that was built with a newer version of plinth")
	}
	return bill, err
}
