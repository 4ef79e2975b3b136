package upgrade

import (
	"fmt"

	"github.com/plinthdev/plinth/internal/problem"
)

// Bundle is the part of a bundle that decides the order of releases.
type Bundle struct {
	Digest  string // of its index
	Release int64  // the vendor's release number; 0 for none; of the installed bundle, at least that of the receipt
}

// CheckOrder returns a refusal if the bundle is is an older release than was, which is installed, or nil. The
// installed bundle itself is accepted: the same command applied again changes nothing or resumes.
//
// The order of signed bundles, their vendor and a rotation of the vendor's key are checked by airgap/trust, from the
// receipt, before a bundle is read at all. What CheckOrder adds is the order of bundles that were accepted without a
// verified signature: their number can be wrong, but is enough against a mistake.
func CheckOrder(was, is Bundle) *Refusal {
	if is.Digest == was.Digest || is.Release >= was.Release {
		return nil
	}
	next := "a release without a number"
	if is.Release != 0 {
		next = fmt.Sprintf("release %d", is.Release)
	}
	return &Refusal{Subject: "release", Was: fmt.Sprintf("release %d", was.Release), Is: next, Exit: problem.ExitBundle,
		Reason: "the bundle is older than the installed one",
		Fix:    "use the vendor's current release; `sudo plinth upgrade --rollback` rolls the last upgrade back while its snapshot is kept"}
}
