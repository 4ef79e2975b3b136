package agent

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certclient "k8s.io/client-go/kubernetes/typed/certificates/v1"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
)

// Limits of the signer.
const (
	SignInterval    = 5 * time.Second  // how often requests are listed; kubelet asks weeks before it needs the answer
	maxRequests     = 5                // of one node within requestsWithin; further ones are denied
	requestsWithin  = 10 * time.Minute // as long as the controller manager keeps decided requests, at least
	nodeUserPrefix  = "system:node:"
	deniedReason    = "PlinthDenied"
	approvedReason  = "PlinthApproved"
	maxPerRun       = 100 // requests that are decided in one run
	maxOpenOfOne    = 10  // of these, requests of one node
	requestsPerPage = 50  // requests that are read at once; the policy plinth-node-identity limits their size
)

// Signer signs the certificates that kubelets request from the API when theirs expire. It takes the
// place of k0s's approver, which signs any name for any node, and of the controller manager, whose
// certificates lack the UID of the admission.
type Signer struct {
	Requests certclient.CertificateSigningRequestInterface
	Records  func(context.Context) (kube.NodeRecords, error)
	CA       func() (pki.Pair, error)
	Now      func() time.Time
	Audit    func(agent.AuditEvent)
}

// kinds are the certificates that the signer signs, by the API's name of their signer.
var kinds = map[string]nodecert.Kind{
	certv1.KubeAPIServerClientKubeletSignerName: nodecert.KubeletClient,
	certv1.KubeletServingSignerName:             nodecert.KubeletServing,
}

// usages are those that a request must have; KeyEncipherment may be added for RSA keys.
var usages = map[nodecert.Kind]certv1.KeyUsage{nodecert.KubeletClient: certv1.UsageClientAuth, nodecert.KubeletServing: certv1.UsageServerAuth}

// SignAll decides requests that are not decided yet, at most maxPerRun.
func (s Signer) SignAll(ctx context.Context) error {
	open, recent, err := s.listRequests(ctx)
	if err != nil || len(open) == 0 {
		return err
	}
	records, err := s.Records(ctx)
	if err != nil {
		return err
	}
	ca, err := s.CA()
	if err != nil {
		return err
	}
	slices.SortFunc(open, func(x, y certv1.CertificateSigningRequest) int {
		return x.CreationTimestamp.Compare(y.CreationTimestamp.Time)
	})
	var errs []error
	for i := range open {
		r := &open[i]
		id, why := checkSigningRequest(records, r)
		if why == nil && recent[requester(r)] >= maxRequests {
			why = fmt.Errorf("%s has requested %d certificates within %s", r.Spec.Username, maxRequests, requestsWithin)
		}
		recent[requester(r)]++
		errs = append(errs, s.decide(ctx, r, id, ca, why))
	}
	return errors.Join(errs...)
}

// listRequests returns requests that are not decided yet, and how many of each requester were decided
// within requestsWithin. It keeps at most maxPerRun, and of one requester at most maxOpenOfOne, so that
// one node cannot use up the memory or delay the requests of others.
func (s Signer) listRequests(ctx context.Context) (open []certv1.CertificateSigningRequest, recent map[string]int, err error) {
	recent = map[string]int{} // by admission: requests of a removed node do not count for its successor
	ofOne := map[string]int{}
	opts := metav1.ListOptions{Limit: requestsPerPage}
	for {
		list, err := s.Requests.List(ctx, opts)
		if err != nil {
			return nil, nil, err
		}
		for _, r := range list.Items {
			if _, ours := kinds[r.Spec.SignerName]; !ours {
				continue
			}
			who := requester(&r)
			switch {
			case len(r.Status.Conditions) > 0:
				if s.Now().Sub(r.CreationTimestamp.Time) < requestsWithin {
					recent[who]++
				}
			case ofOne[who] < maxOpenOfOne && len(open) < maxPerRun:
				ofOne[who]++
				open = append(open, r)
			}
		}
		if opts.Continue = list.Continue; opts.Continue == "" {
			return open, recent, nil
		}
	}
}

// requester returns the admission that has sent a request.
func requester(r *certv1.CertificateSigningRequest) string {
	return r.Spec.Username + " " + r.Spec.UID
}

// checkSigningRequest returns the identity for which a request may be signed. The request itself is
// checked by nodecert.Sign.
func checkSigningRequest(records kube.NodeRecords, r *certv1.CertificateSigningRequest) (id nodecert.Identity, err error) {
	name, isNode := strings.CutPrefix(r.Spec.Username, nodeUserPrefix)
	if !isNode {
		return id, fmt.Errorf("%q is not a node; hosts join with `plinth join`", r.Spec.Username)
	}
	record, err := records.FindAdmission(name, r.Spec.UID)
	if err != nil {
		return id, err
	}
	kind := kinds[r.Spec.SignerName]
	for _, u := range r.Spec.Usages {
		if u != usages[kind] && u != certv1.UsageDigitalSignature && u != certv1.UsageKeyEncipherment {
			return id, fmt.Errorf("the usage %q is not for a %s", u, kind)
		}
	}
	if !slices.Contains(r.Spec.Usages, usages[kind]) {
		return id, fmt.Errorf("the usage %q is missing", usages[kind])
	}
	return identityOf(record, ""), nil
}

// decide signs and approves a request, or denies it because of why.
func (s Signer) decide(ctx context.Context, r *certv1.CertificateSigningRequest, id nodecert.Identity, ca pki.Pair, why error) error {
	kind := kinds[r.Spec.SignerName]
	var cert []byte
	if why == nil {
		cert, why = signPEM(kind, id, r.Spec.Request, ca, s.Now())
	}
	if why != nil {
		return s.deny(ctx, r, why)
	}
	// The certificate comes first: once a request is approved, the controller manager would sign it, without the UID.
	if len(r.Status.Certificate) == 0 {
		r.Status.Certificate = cert
		next, err := s.Requests.UpdateStatus(ctx, r, metav1.UpdateOptions{FieldManager: "plinth"})
		if err != nil {
			return ignoreRace(err)
		}
		r = next
	}
	r.Status.Conditions = append(r.Status.Conditions, certv1.CertificateSigningRequestCondition{Type: certv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: approvedReason, Message: "signed for the admitted node " + id.Node})
	if _, err := s.Requests.UpdateApproval(ctx, r.Name, r, metav1.UpdateOptions{FieldManager: "plinth"}); err != nil {
		return ignoreRace(err)
	}
	s.Audit(agent.AuditEvent{Event: agent.AuditAdmission, Node: id.Node, Result: "signed a " + string(kind) + " certificate"})
	return nil
}

// deny denies a request because of why.
func (s Signer) deny(ctx context.Context, r *certv1.CertificateSigningRequest, why error) error {
	r.Status.Conditions = append(r.Status.Conditions, certv1.CertificateSigningRequestCondition{Type: certv1.CertificateDenied, Status: corev1.ConditionTrue, Reason: deniedReason, Message: why.Error()})
	if _, err := s.Requests.UpdateApproval(ctx, r.Name, r, metav1.UpdateOptions{FieldManager: "plinth"}); err != nil {
		return ignoreRace(err)
	}
	node, _ := strings.CutPrefix(r.Spec.Username, nodeUserPrefix)
	s.Audit(agent.AuditEvent{Event: agent.AuditRefusal, Node: node, Result: why.Error()})
	return nil
}

// ignoreRace returns nil if another controller has decided the request at the same time.
func ignoreRace(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// signPEM signs a request in PEM.
func signPEM(kind nodecert.Kind, id nodecert.Identity, request []byte, ca pki.Pair, now time.Time) ([]byte, error) {
	block, rest := pem.Decode(request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) > 0 {
		return nil, errors.New("the request is not one PEM block")
	}
	return nodecert.Sign(kind, id, block.Bytes, ca, now)
}

// WatchRequests has the signer decide requests at each tick until ctx ends. A failure is noted when
// it begins and tried again.
func WatchRequests(ctx context.Context, tick <-chan time.Time, sign func(context.Context) error, note func(string)) {
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		err := sign(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			note("cannot sign the certificates that nodes request: " + err.Error())
		}
		failing = err != nil
	}
}
