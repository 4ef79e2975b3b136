// Package record owns what a cluster remembers of its join tokens: one secret
// each, with a hash in place of the token's own secret, so that every
// controller can judge a token and a revocation counts at once everywhere. It
// refuses to know how a host joins.
package record

import (
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/token"
)

// Record is what is known of one token; its JSON form, without the hash, is
// public.
type Record struct {
	ID      string     `json:"id"`
	Role    string     `json:"role"`    // token.Controller or token.Worker
	State   string     `json:"state"`   // active, expired, used up or revoked; filled in by List
	Created time.Time  `json:"created"` // UTC
	Expires time.Time  `json:"expires"` // UTC
	Uses    int        `json:"uses"`    // how many hosts may join with it
	Left    int        `json:"usesLeft"`
	Used    []Use      `json:"usedBy,omitempty"`
	Revoked *time.Time `json:"revoked,omitempty"`
	Hash    string     `json:"-"` // of the token's secret
}

// Use is one host that joined, or began to.
type Use struct {
	Node      string    `json:"node"`      // Kubernetes name
	MachineID string    `json:"machineId"` // /etc/machine-id
	At        time.Time `json:"at"`        // of the first attempt, UTC
	Bootstrap string    `json:"-"`         // id of the k0s token that it was given last
}

// The states of a token.
const (
	Active  = "active"
	Expired = "expired"
	UsedUp  = "used up"
	Revoked = "revoked"
)

// Refusal says why a token does not count.
type Refusal struct{ Why string }

// Error is the reason.
func (r *Refusal) Error() string { return r.Why }

// usedBy is the use by that machine.
func (r Record) usedBy(machineID string) int {
	return slices.IndexFunc(r.Used, func(u Use) bool { return u.MachineID == machineID })
}

// state judges a token at a time.
func (r Record) state(now time.Time) string {
	switch {
	case r.Revoked != nil:
		return Revoked
	case !now.Before(r.Expires):
		return Expired
	case len(r.Used) >= r.Uses:
		return UsedUp
	}
	return Active
}

// Check says whether the secret is this token's and the token counts now; a
// *Refusal says why not. machineID is that of the host that asks: a host that
// began to join may go on though no use is left; "" stands for none.
func (r Record) Check(secret, machineID string, now time.Time) error {
	if !token.Matches(secret, r.Hash) {
		return &Refusal{unknown}
	}
	if err := r.ended(now); err != nil {
		return err
	}
	if r.state(now) == UsedUp && (machineID == "" || r.usedBy(machineID) < 0) {
		var nodes []string
		for _, u := range r.Used {
			nodes = append(nodes, u.Node)
		}
		return &Refusal{"the token is used up, by " + strings.Join(nodes, ", ")}
	}
	return nil
}

// unknown is said of an id that is not there and of a wrong secret alike.
const unknown = "the cluster does not know this token"

// Reads says whether the shown secret, or its hash (token.Token.Reader), may
// read the cluster's blobs now; a *Refusal says why not. A token that is used up
// still reads: the hosts that used it do.
func (r Record) Reads(shown string, now time.Time) error {
	if !token.Matches(shown, r.Hash) && subtle.ConstantTimeCompare([]byte(shown), []byte(r.Hash)) != 1 {
		return &Refusal{unknown}
	}
	return r.ended(now)
}

// ended is the refusal of a token that was revoked or has expired.
func (r Record) ended(now time.Time) error {
	switch r.state(now) {
	case Revoked:
		return &Refusal{"the token was revoked at " + r.Revoked.Format(time.RFC3339)}
	case Expired:
		return &Refusal{fmt.Sprintf("the token expired at %s; the cluster's clock says %s", r.Expires.Format(time.RFC3339), now.UTC().Format(time.RFC3339))}
	}
	return nil
}

// use notes that a host joins. The same machine uses a token once.
func (r *Record) use(u Use) {
	if i := r.usedBy(u.MachineID); i >= 0 {
		r.Used[i].Node, r.Used[i].Bootstrap = u.Node, u.Bootstrap
		return
	}
	r.Used = append(r.Used, u)
}
