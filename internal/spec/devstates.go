//go:build devstates

package spec

// installsDevStates makes this build install states of k0s's main branch before a release, such as
// v1.35.0-dev+k0s.0. Only a program for tests is built with this tag (docs/decisions/0045).
const installsDevStates = true
