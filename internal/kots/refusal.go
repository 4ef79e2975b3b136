package kots

import (
	"errors"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
)

// refusal is a cause for which KOTS does not install an application, in plain
// words.
type refusal struct {
	cause string // ends "cannot install the application: …"
	hint  string
}

func (r *refusal) Error() string { return r.cause }

func (r *refusal) problem() error {
	return problem.New(problem.ExitStep, "install the application", errors.New(r.cause), r.hint)
}

// phrases are KOTS's words (v1.131), in its log or its CLI's output, and what
// they mean. final ones end an installation: to try again is in vain.
func phrases() []struct {
	words string
	final bool
	means refusal
} {
	vendor := "ask the application's vendor for a new license"
	return []struct {
		words string
		final bool
		means refusal
	}{
		{"failed to verify license signature", true, refusal{"KOTS says that the license's signature is not valid", vendor}},
		{"License signature is not valid", true, refusal{"KOTS says that the license's signature is not valid", vendor}},
		{"license is expired", true, refusal{"KOTS says that the license has expired", vendor}},
		{"License is expired", true, refusal{"KOTS says that the license has expired", vendor}},
		{"license already exists for app", true, refusal{"an application with this license is there already",
			"open the console to go on with it"}},
		{"failed to find requested channel in license", true, refusal{"the license does not give access to the channel that was asked for", vendor}},
		{"failed to load airgap data for", true, refusal{"KOTS did not find what the application bundle should have left in the cluster",
			"run the same command again"}},
		{"requires a different version of KOTS", false, refusal{"the application wants another version of KOTS",
			"see the versions that it allows: plinth lint"}},
		{"requires a version of KOTS that is different", false, refusal{"the application wants another version of KOTS",
			"see the versions that it allows: plinth lint"}},
		{"failed to ping registry", false, refusal{"the registry inside the cluster does not answer",
			"see what its pod says: plinth kubectl get pods -n registry"}},
		{"Failed to test access to", false, refusal{"the registry inside the cluster refuses KOTS",
			"see what its pod says: plinth kubectl get pods -n registry"}},
		{"preflight", false, refusal{"the application's own preflight checks fail or warn, so it was not deployed",
			"open the console: it shows which, and lets you go on"}},
		{"not pushing airgapped app images as no registry was provided", false, refusal{"there is no registry in the cluster, which KOTS needs to install from a bundle",
			"add registry to the Installer's spec"}},
	}
}

// hear returns the refusal that a line of the console's log stands for, nil
// for none that ends an installation.
func hear(line string) *refusal {
	for _, p := range phrases() {
		if p.final && strings.Contains(line, p.words) {
			return &p.means
		}
	}
	return nil
}

// explain puts the CLI's last words into plain ones; words that are not known
// are given as they are.
func explain(said string) *refusal {
	for _, p := range phrases() {
		if strings.Contains(said, p.words) {
			return &refusal{p.means.cause + " (" + said + ")", p.means.hint}
		}
	}
	return &refusal{said, "run the same command again, or install the application in the console"}
}
