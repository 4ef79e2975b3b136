package plan

import (
	"context"

	"github.com/plinthdev/plinth/internal/step"
)

// CertificateRenewal has the certificates that RenewCertificates renews. A nil field is left as it is.
type CertificateRenewal struct {
	Agent       *Renewal // of this host's agent
	Registry    *Renewal // of the built-in registry
	ObjectStore *Renewal // of the built-in object store
	Console     *Renewal // of the console, if Plinth created it
	Kubelet     *Renewal // of this host's kubelet, which uses them after K0s
	K0s         *Renewal // of k0s on this host
}

// Renewal is one renewal.
type Renewal struct {
	Reason    string
	Affects   []string
	IsRenewed func(context.Context) (bool, error) // reports whether Renew is done
	Renew     func(context.Context, step.Report) error
}

// RenewCertificates returns the steps that renew certificates: first those that need no restart of k0s, so that
// a restart that is refused does not hold them up.
func RenewCertificates(r CertificateRenewal) (steps []step.Step) {
	for _, s := range []struct {
		id, title string
		renewal   *Renewal
	}{
		{"certificate-agent", "Renew the certificate of Plinth's agent", r.Agent},
		{"certificate-registry", "Renew the certificate of the registry", r.Registry},
		{"certificate-object-store", "Renew the certificate of the object store", r.ObjectStore},
		{"certificate-console", "Renew the certificate of the console", r.Console},
		{"certificate-kubelet", "Renew the certificates of kubelet", r.Kubelet},
		{"certificate-k0s", "Restart k0s, which renews its certificates", r.K0s},
	} {
		if s.renewal != nil {
			steps = append(steps, s.renewal.newStep(s.id, s.title))
		}
	}
	return steps
}

func (r Renewal) newStep(id, title string) step.Step {
	return step.Step{ID: id, Title: title, Affects: r.Affects, Apply: r.Renew,
		Check: func(ctx context.Context) (step.State, error) {
			renewed, err := r.IsRenewed(ctx)
			if err != nil || renewed {
				return step.Done(), err
			}
			return step.Needed(r.Reason), nil
		},
	}
}
