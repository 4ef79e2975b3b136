package token

import (
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Record is what the cluster knows of one token; its JSON form, without the
// hash, is public.
type Record struct {
	ID       string     `json:"id"`
	Role     string     `json:"role"`    // token.Controller or token.Worker
	State    string     `json:"state"`   // active, expired, used up or revoked; set by List
	Created  time.Time  `json:"created"` // UTC
	Expires  time.Time  `json:"expires"` // UTC
	Uses     int        `json:"uses"`    // how many hosts may join with it
	UsesLeft int        `json:"usesLeft"`
	UsedBy   []Use      `json:"usedBy,omitempty"`
	Revoked  *time.Time `json:"revoked,omitempty"`
	Hash     string     `json:"-"` // of the token's secret
}

// Use is one host that joined, or started to.
type Use struct {
	Node      string    `json:"node"`            // Kubernetes name
	MachineID string    `json:"machineId"`       // /etc/machine-id
	At        time.Time `json:"at"`              // of the first attempt, UTC
	Key       string    `json:"key"`             // pin of the key that the host's agent has; see PublicKeyPin
	Ended     bool      `json:"ended,omitempty"` // the host was removed from the cluster: it must not join again with this token
}

// The states of a token.
const (
	Active  = "active"
	Expired = "expired"
	UsedUp  = "used up"
	Revoked = "revoked"
)

// RejectedError is the reason why a token is not accepted.
type RejectedError struct{ Reason string }

// Error returns the reason.
func (r *RejectedError) Error() string { return r.Reason }

// indexOfUse returns the index of the use by the host that has the key, or -1.
func (r Record) indexOfUse(key string) int {
	return slices.IndexFunc(r.UsedBy, func(u Use) bool { return u.Key == key && key != "" })
}

// stateAt returns the state of the token at the given time.
func (r Record) stateAt(now time.Time) string {
	switch {
	case r.Revoked != nil:
		return Revoked
	case !now.Before(r.Expires):
		return Expired
	case len(r.UsedBy) >= r.Uses:
		return UsedUp
	}
	return Active
}

// Check returns nil if secret is that of the token and the token is valid now,
// else a *RejectedError. key is the pin of the key that the requesting host has
// shown: a host that started to join may resume even if no use is left; ""
// matches no host.
func (r Record) Check(secret, key string, now time.Time) error {
	if !MatchesHash(secret, r.Hash) {
		return &RejectedError{unknownToken}
	}
	return r.checkUse(key, now)
}

// checkUse returns a *RejectedError if the token has ended or is used up by other
// hosts than the one that has the key.
func (r Record) checkUse(key string, now time.Time) error {
	if err := r.checkEnded(now); err != nil {
		return err
	}
	i := r.indexOfUse(key)
	if i >= 0 && r.UsedBy[i].Ended {
		return &RejectedError{"node " + r.UsedBy[i].Node + ", which joined with this token, was removed from the cluster"}
	}
	if r.stateAt(now) == UsedUp && i < 0 {
		var nodes []string
		for _, u := range r.UsedBy {
			nodes = append(nodes, u.Node)
		}
		return &RejectedError{"the token is used up, by " + strings.Join(nodes, ", ")}
	}
	return nil
}

// unknownToken is the reason for an unknown ID and for a wrong secret alike.
const unknownToken = "the cluster does not know this token"

// CheckReadAccess returns nil if the given secret, or its hash
// (Token.ReadOnlyBearer), may read the blobs of the cluster now, else a
// *RejectedError. key is as for Check: a used-up token is used up for all hosts but
// those that used it.
func (r Record) CheckReadAccess(credential, key string, now time.Time) error {
	if !MatchesHash(credential, r.Hash) && subtle.ConstantTimeCompare([]byte(credential), []byte(r.Hash)) != 1 {
		return &RejectedError{unknownToken}
	}
	return r.checkUse(key, now)
}

// checkEnded returns a *RejectedError if the token is revoked or has expired.
func (r Record) checkEnded(now time.Time) error {
	switch r.stateAt(now) {
	case Revoked:
		return &RejectedError{"the token was revoked at " + r.Revoked.Format(time.RFC3339)}
	case Expired:
		return &RejectedError{fmt.Sprintf("the token expired at %s; the cluster's clock is at %s", r.Expires.Format(time.RFC3339), now.UTC().Format(time.RFC3339))}
	}
	return nil
}

// addUse records that a host joins. The same host uses a token only once.
func (r *Record) addUse(u Use) {
	if i := r.indexOfUse(u.Key); i >= 0 {
		r.UsedBy[i].Node = u.Node
		return
	}
	r.UsedBy = append(r.UsedBy, u)
}
