package certificates

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/servingcert"
	"github.com/plinthdev/plinth/internal/token"
)

// Certificate is one certificate of this host or of its cluster. Its JSON format is public.
type Certificate struct {
	Name      string    `json:"name"`
	Owner     string    `json:"owner"`    // program that shows it; of an authority: whose certificates it signs
	Location  string    `json:"location"` // file, or object of the cluster
	Begins    time.Time `json:"begins,omitzero"`
	Ends      time.Time `json:"ends,omitzero"`
	DaysLeft  int       `json:"daysLeft"` // negative after its end
	RenewedBy Renewer   `json:"renewedBy,omitempty"`
	Restarts  string    `json:"restarts,omitempty"` // what is restarted to use a new one
	Authority bool      `json:"authority,omitempty"`
	Due       bool      `json:"due,omitempty"`     // it is to be renewed now
	Problem   string    `json:"problem,omitempty"` // why it cannot be read

	serial string
	left   float64 // share of its life
}

// Inventory is the result of List. Its JSON format is public.
type Inventory struct {
	Certificates []Certificate `json:"certificates"` // sorted by end
}

// List returns the certificates of this host and, on a controller, those of the cluster. It changes nothing.
// A cluster that does not answer is a warning, not an error.
func List(ctx context.Context, env *action.Env) (Inventory, error) {
	receipt, err := env.RequireInstalled("list the certificates")
	if err != nil {
		return Inventory{}, err
	}
	all, err := readAll(ctx, env.ReadOnly(), receipt)
	if err != nil {
		env.Note("warning: the certificates of the registry and the console are not listed, because the cluster does not answer: " + problem.ExplainConnection(err))
	}
	return Inventory{all}, nil
}

// readAll returns the certificates of the host and, on a controller, of the cluster. With an error, those of
// the cluster are missing.
func readAll(ctx context.Context, env *action.Env, receipt journal.Receipt) ([]Certificate, error) {
	now := env.Now()
	all := ReadHost(env.Host, env.DataDir, now)
	if receipt.Role == token.Worker {
		return all, nil
	}
	client, err := env.KubeClient()
	if err != nil {
		return all, err
	}
	more, err := ReadCluster(ctx, client, receipt, now)
	return sortByEnd(append(all, more...)), err
}

func sortByEnd(all []Certificate) []Certificate {
	slices.SortStableFunc(all, func(x, y Certificate) int { return x.Ends.Compare(y.Ends) })
	return all
}

// ReadHost returns the certificates in the files of h, sorted by end. Files that do not exist are left out.
func ReadHost(h host.Files, dataDir string, now time.Time) (all []Certificate) {
	var admin *x509.Certificate
	for _, e := range table(node.IdentityPath(dataDir)) {
		if e.name == nameLoopback && admin != nil {
			// kube-apiserver starts with k0s, which renews this certificate then.
			all = append(all, describeValidity(e, "memory of kube-apiserver", admin.NotBefore, admin.NotBefore.Add(loopbackLife), now))
			all[len(all)-1].serial = admin.SerialNumber.String()
		}
		if e.file == "" {
			continue
		}
		raw, err := h.ReadFile(e.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var leaf *x509.Certificate
		if err == nil {
			leaf, err = pki.ParseCertificate(raw)
		}
		if e.name == nameAdmin {
			admin = leaf
		}
		c := describe(e, e.file, leaf, err, now)
		if c.RenewedBy == ByK0s && leaf != nil && admin != nil && leaf.NotBefore.Before(admin.NotBefore.Add(-startTolerance)) {
			c.RenewedBy, c.Restarts, c.Due, c.left = ByNone, restartsNothing, false, 1 // an older version of k0s has left it
		}
		all = append(all, c)
	}
	if _, ok := findByName(all, nameCA); !ok {
		all = append(all, readWorkerCA(h, dataDir, now)...)
	}
	return sortByEnd(all)
}

// readWorkerCA returns the cluster's authority, which a worker has beside the certificate of its agent only; nothing for
// a host that is not a node.
func readWorkerCA(h host.Files, dataDir string, now time.Time) []Certificate {
	i, err := node.ReadIdentity(h, dataDir)
	if err != nil {
		return nil // it is listed as a certificate that cannot be read
	}
	ca, err := i.Authority()
	if err != nil || ca == nil {
		return nil
	}
	return []Certificate{describe(table("")[0], node.IdentityPath(dataDir), ca, nil, now)}
}

// ReadCluster returns the certificates that the cluster of a controller stores: of the services of add-ons and of the
// console.
func ReadCluster(ctx context.Context, client *kube.Client, receipt journal.Receipt, now time.Time) (all []Certificate, err error) {
	for _, e := range table("") {
		var raw []byte
		var err error
		namespace, selfSigned := receipt.Console.Namespace, true
		if e.addOn != "" {
			namespace = namespaceOf(receipt, e.addOn)
		}
		if e.object == "" || namespace == "" {
			continue
		}
		switch service := (servingcert.Service{Kube: client, Namespace: namespace, Name: e.service}); {
		case e.name == nameConsole:
			raw, selfSigned, err = kots.ConsoleProxy{Kube: client, Namespace: namespace}.Certificate(ctx)
		case e.authority:
			raw, err = service.CA(ctx)
		default:
			raw, err = service.Certificate(ctx)
		}
		if errors.Is(err, kube.ErrNotFound) {
			continue
		}
		if err != nil {
			return all, err
		}
		if !selfSigned {
			e.renewer, e.restarts = ByUser, restartsConsole
		}
		leaf, err := pki.ParseCertificate(raw)
		all = append(all, describe(e, e.object+" in "+namespace, leaf, err, now))
	}
	return sortByEnd(all), nil
}

// namespaceOf returns the namespace of an add-on, or "" for a cluster without it.
func namespaceOf(receipt journal.Receipt, addOn string) string {
	for _, a := range receipt.AddOns {
		if a.Name == addOn {
			return a.Namespace
		}
	}
	return ""
}

// describe returns the certificate of e, whose content is leaf, or which cannot be read because of err.
func describe(e entry, location string, leaf *x509.Certificate, err error, now time.Time) Certificate {
	if err != nil {
		c := describeValidity(e, location, time.Time{}, time.Time{}, now)
		c.DaysLeft, c.Problem, c.Due, c.left = 0, err.Error(), false, 1 // k0s replaces it at its next start
		return c
	}
	if e.renewer == ByK0s && !slices.Contains(k0sAuthorities, leaf.Issuer.CommonName) {
		e.renewer = ByUser // k0s keeps it
	}
	c := describeValidity(e, location, leaf.NotBefore, leaf.NotAfter, now)
	c.serial = leaf.SerialNumber.String()
	return c
}

// describeValidity returns the certificate of e, which is valid from begins to ends.
func describeValidity(e entry, location string, begins, ends, now time.Time) Certificate {
	c := Certificate{Name: e.name, Owner: e.owner, Location: location, RenewedBy: e.renewer, Restarts: e.restarts, Authority: e.authority,
		left: pki.LifeLeft(&x509.Certificate{NotBefore: begins, NotAfter: ends}, now)}
	if !begins.IsZero() {
		c.Begins, c.Ends = begins.UTC(), ends.UTC()
	}
	c.DaysLeft = int(math.Floor(ends.Sub(now).Hours() / 24))
	c.Due = !e.authority && c.RenewedBy != ByUser && c.left < e.renewBelow
	return c
}

// Warning returns why users should do something about a certificate, and what; "" if they need not.
func (c Certificate) Warning(now time.Time) string {
	ends := fmt.Sprintf("certificate %s ends on %s", c.Name, c.Ends.Format(time.DateOnly))
	if c.Ends.Before(now) {
		ends = fmt.Sprintf("certificate %s ended on %s", c.Name, c.Ends.Format(time.DateOnly))
	}
	switch {
	case c.Problem != "":
		return fmt.Sprintf("certificate %s (%s) cannot be read: %s", c.Name, c.Location, c.Problem)
	case c.Authority && c.Ends.Before(now.Add(authorityWarning)):
		return "the authority of " + c.Owner + ": " + ends + " and cannot be renewed; replace the keys of the cluster before, as the hardening guide describes"
	case c.Authority, c.RenewedBy == ByNone:
		return ""
	case now.Before(c.Begins):
		return fmt.Sprintf("certificate %s is valid from %s only: the clock of this host was or is wrong", c.Name, c.Begins.Format(time.RFC3339))
	case c.RenewedBy == ByUser && c.Name == nameConsole && c.left < warnBelow:
		return ends + " and is your own; set a new one: plinth console set-certificate --cert FILE --key FILE"
	case c.RenewedBy == ByUser && c.left < warnBelow:
		return ends + " and is your own: replace " + c.Location
	case c.RenewedBy == ByKubelet && c.left >= kubeletRenewBelow: // kubelet may still be about to renew it
		return ""
	case c.left < warnBelow:
		return ends + ", and its renewal is overdue; see: journalctl -t plinth-agent, and: plinth certificates renew --plan"
	}
	return ""
}

// findByName returns the certificate with that name.
func findByName(all []Certificate, name string) (Certificate, bool) {
	i := slices.IndexFunc(all, func(c Certificate) bool { return c.Name == name })
	if i < 0 {
		return Certificate{}, false
	}
	return all[i], true
}

// leastLeft returns the smallest share of life that one of the certificates has left; 1 for none.
func leastLeft(all []Certificate) float64 {
	least := 1.0
	for _, c := range all {
		least = min(least, c.left)
	}
	return least
}

// namesOf returns the names of certificates, sorted.
func namesOf(all []Certificate) (names []string) {
	for _, c := range all {
		names = append(names, c.Name)
	}
	slices.SortFunc(names, cmp.Compare[string])
	return names
}
