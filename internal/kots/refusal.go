package kots

import (
	"errors"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
)

// installError is a known reason why KOTS does not install an application.
type refusal struct {
	cause string // ends "cannot install the application: …"
	hint  string
}

func (r *refusal) Error() string { return r.cause }

func (r *refusal) problem() error {
	return problem.New(problem.ExitStep, "install the application", errors.New(r.cause), r.hint)
}

// knownErrors returns the messages of KOTS (v1.131), in its log or in the
// output of its CLI, and their meaning. A fatal one ends an installation: a
// retry cannot succeed.
func phrases() []struct {
	text    string
	fatal   bool
	meaning refusal
} {
	vendor := "ask the application's vendor for a new license"
	return []struct {
		text    string
		fatal   bool
		meaning refusal
	}{
		{"failed to verify license signature", true, refusal{"the license's signature is not valid according to KOTS", vendor}},
		{"License signature is not valid", true, refusal{"the license's signature is not valid according to KOTS", vendor}},
		{"license is expired", true, refusal{"the license has expired according to KOTS", vendor}},
		{"License is expired", true, refusal{"the license has expired according to KOTS", vendor}},
		{"license already exists for app", true, refusal{"an application with this license already exists",
			"open the console to continue with it"}},
		{"failed to find requested channel in license", true, refusal{"the license does not allow access to the requested channel", vendor}},
		{"failed to load airgap data for", true, refusal{"KOTS did not find the data of the application bundle in the cluster",
			"run the same command again"}},
		{"requires a different version of KOTS", false, refusal{"the application requires another version of KOTS",
			"see the versions that it supports: plinth lint"}},
		{"requires a version of KOTS that is different", false, refusal{"the application requires another version of KOTS",
			"see the versions that it supports: plinth lint"}},
		{"failed to ping registry", false, refusal{"the registry inside the cluster does not respond",
			"inspect its pod: plinth kubectl get pods -n registry"}},
		{"Failed to test access to", false, refusal{"the registry inside the cluster denies access to KOTS",
			"inspect its pod: plinth kubectl get pods -n registry"}},
		{"preflight", false, refusal{"the application's own preflight checks fail or warn, so it was not deployed",
			"open the console to see which checks, and to continue"}},
		{"not pushing airgapped app images as no registry was provided", false, refusal{"the cluster has no registry, which KOTS needs to install from a bundle",
			"add registry to the spec of the Installer"}},
	}
}

// matchFatal returns the error in a line of the console's log that ends an
// installation, or nil.
func hear(line string) *refusal {
	for _, p := range phrases() {
		if p.fatal && strings.Contains(line, p.text) {
			return &p.meaning
		}
	}
	return nil
}

// translate returns the meaning of the CLI's error text; an unknown text is
// returned unchanged.
func explain(text string) *refusal {
	for _, p := range phrases() {
		if strings.Contains(text, p.text) {
			return &refusal{p.meaning.cause + " (" + text + ")", p.meaning.hint}
		}
	}
	return &refusal{text, "run the same command again, or install the application in the console"}
}
