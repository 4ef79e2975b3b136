package kots

import (
	"errors"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
)

// installError is a known reason why KOTS does not install an application.
type installError struct {
	cause string // ends "cannot install the application: …"
	hint  string
}

func (r *installError) Error() string { return r.cause }

func (r *installError) toProblem() error {
	return problem.New(problem.ExitStep, "install the application", errors.New(r.cause), r.hint)
}

// PortForward returns the command that makes the console available at http://localhost:8800.
func (k *Client) PortForward() string {
	return k.Kube.Kubectl() + " port-forward -n " + k.Namespace + " service/kotsadm 8800:3000"
}

// openConsole returns the part of a hint that says how to open the console. In a cluster that Plinth did not create, the
// commands of plinth console do not exist. There, kubectl gets its flags after the name of a plug-in.
func (k *Client) openConsole() string {
	if !k.AnyNode {
		return "sudo plinth console url shows its URL, and sudo plinth console reset-password sets a password"
	}
	_, flags, _ := strings.Cut(k.Kube.Kubectl(), "kubectl")
	return k.PortForward() + " makes it available at http://localhost:8800, and kubectl kots reset-password -n " + k.Namespace + flags + " sets a password"
}

// knownErrors returns the messages of KOTS (v1.131), in its log or in the
// output of its CLI, and their meaning, with hints for the cluster of k. A fatal
// one ends an installation: a retry cannot succeed.
func (k *Client) knownErrors() []struct {
	text    string
	fatal   bool
	meaning installError
} {
	const vendor, thenAgain = "ask the application's vendor for a new license", "then run the same command again"
	openConsole, inspectRegistry := k.openConsole(), "inspect its pod: "+k.Kube.Kubectl()+" get pods -n registry"
	return []struct {
		text    string
		fatal   bool
		meaning installError
	}{
		{"failed to verify license signature", true, installError{"the license's signature is not valid according to KOTS", vendor}},
		{"License signature is not valid", true, installError{"the license's signature is not valid according to KOTS", vendor}},
		{"license is expired", true, installError{"the license has expired according to KOTS", vendor}},
		{"License is expired", true, installError{"the license has expired according to KOTS", vendor}},
		{"license already exists for app", true, installError{"the console already has the application, but has deployed no version of it",
			"deploy it there: " + openConsole + "; " + thenAgain}},
		{"failed to find requested channel in license", true, installError{"the license does not allow access to the requested channel", vendor}},
		{"failed to load airgap data for", true, installError{"KOTS did not find the data of the application bundle in the cluster",
			"run the same command again"}},
		{"requires a different version of KOTS", false, installError{"the application requires another version of KOTS",
			"see the versions that it supports: plinth lint"}},
		{"requires a version of KOTS that is different", false, installError{"the application requires another version of KOTS",
			"see the versions that it supports: plinth lint"}},
		{"failed to ping registry", false, installError{"the registry inside the cluster does not respond",
			inspectRegistry}},
		{"Failed to test access to", false, installError{"the registry inside the cluster denies access to KOTS",
			inspectRegistry}},
		{"preflight", false, installError{"the application's own preflight checks fail or warn, so it was not deployed",
			"make them pass, and run them again in the console: " + openConsole + "; " + thenAgain}},
		{"not pushing airgapped app images as no registry was provided", false, installError{"the cluster has no registry, which KOTS needs to install from a bundle",
			"add registry to the spec of the Installer"}},
	}
}

// matchFatal returns the error in a line of the console's log that ends an
// installation, or nil.
func (k *Client) matchFatal(line string) *installError {
	for _, p := range k.knownErrors() {
		if p.fatal && strings.Contains(line, p.text) {
			return &p.meaning
		}
	}
	return nil
}

// translate returns the meaning of the CLI's error text; an unknown text is
// returned unchanged.
func (k *Client) translate(text string) *installError {
	if k.Registry != nil && (strings.Contains(text, "failed to ping registry") || strings.Contains(text, "Failed to test access to")) {
		return &installError{"the registry " + k.Registry.Address + " does not respond, or denies access (" + text + ")", "check the registry and the login, then run the same command again"}
	}
	for _, p := range k.knownErrors() {
		if strings.Contains(text, p.text) {
			return &installError{p.meaning.cause + " (" + text + ")", p.meaning.hint}
		}
	}
	return &installError{text, "run the same command again, or install the application in the console"}
}
