//go:build !devstates

package spec

// installsDevStates is false in every program that is shipped.
const installsDevStates = false
