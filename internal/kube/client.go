// Package kube implements the Kubernetes API operations that Plinth needs: it
// reads nodes, pods and workloads, waits for them, applies manifests, stores
// secrets, and drains and removes nodes. It polls instead of watching, so that
// an API server that restarts is only one more reason to wait.
package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	certclient "k8s.io/client-go/kubernetes/typed/certificates/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/plinthdev/plinth/internal/wait"
)

// fieldManager is the field manager of objects that Plinth applies. It
// separates its fields from those of controllers and users.
const fieldManager = "plinth"

// pollInterval is the pause between two polls of a wait. It is short, because
// the API server is on the same machine.
const pollInterval = 300 * time.Millisecond

// ErrNotFound means that the API server responded and has no such object.
var ErrNotFound = errors.New("not found in the cluster")

// Client is a client of the API server of one cluster.
type Client struct {
	config    *rest.Config
	core      corev1client.CoreV1Interface
	certs     certclient.CertificatesV1Interface
	dynamic   dynamic.Interface
	discovery discovery.CachedDiscoveryInterface
	mapper    meta.ResettableRESTMapper

	ignored []string // names of nodes whose pods the waits leave out
	only    string   // name of the node whose pods alone the waits await; "" for all nodes
	kubectl string   // command of WithKubectl; "" for that of a host of the cluster
}

// WithKubectl returns a copy of c whose hints call kubectl with command, for users who have no host of the cluster.
func (c *Client) WithKubectl(command string) *Client {
	with := *c
	with.kubectl = command
	return &with
}

// Kubectl returns the command with which the user calls kubectl for this cluster.
func (c *Client) Kubectl() string { return cmp.Or(c.kubectl, "sudo plinth kubectl") }

// IgnoringNodes returns a copy of c whose waits for pods leave out the pods on nodes with these names, such as a lost node.
func (c *Client) IgnoringNodes(names ...string) *Client {
	with := *c
	with.ignored = names
	return &with
}

// OnlyNode returns a copy of c whose waits for pods leave out the pods on all nodes but name, which may be away.
func (c *Client) OnlyNode(name string) *Client {
	with := *c
	with.only = name
	return &with
}

// ignores reports whether the waits leave out the pods on a node; "" is the node of pods that are not scheduled.
func (c *Client) ignores(node string) bool {
	return slices.Contains(c.ignored, node) || c.only != "" && node != "" && node != c.only
}

// awaitedPods returns the pods of a namespace, "" for all, except those on ignored nodes and those that only an ignored
// node could run: no node has room for them, and another pod of their workload is Ready.
func (c *Client) awaitedPods(ctx context.Context, namespace string) ([]corev1.Pod, error) {
	list, err := c.core.Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	if len(c.ignored) == 0 && c.only == "" {
		return list.Items, nil
	}
	pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return c.ignores(p.Spec.NodeName) })
	ready := map[string]bool{}
	for i := range pods {
		if p := &pods[i]; !isIgnoredPod(p) && podReason(p) == "" {
			ready[workload(p)] = true
		}
	}
	return slices.DeleteFunc(pods, func(p corev1.Pod) bool {
		return ready[workload(&p)] && slices.ContainsFunc(p.Status.Conditions, isUnschedulable)
	}), nil
}

// workload returns the kind, namespace and name of what controls a pod; for a ReplicaSet without the hash of its template,
// so that all of a Deployment are the same. "" if nothing does.
func workload(p *corev1.Pod) string {
	by := metav1.GetControllerOf(p)
	if by == nil {
		return ""
	}
	name := by.Name
	if by.Kind == "ReplicaSet" {
		name = name[:max(0, strings.LastIndexByte(name, '-'))]
	}
	return by.Kind + " " + p.Namespace + "/" + name
}

// isUnschedulable reports whether a condition of a pod says that the scheduler has found no node for it.
func isUnschedulable(cond corev1.PodCondition) bool {
	return cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse
}

// Wait sets the timeout of a wait and the functions that report why it is not
// over yet.
type Wait struct {
	Timeout  time.Duration                            // upper bound
	Diagnose func(ctx context.Context) string         // used if the cluster gives no cause; may be nil
	Report   func(message string, bytes, total int64) // called with each new reason; may be nil
}

// New returns a client for the content of a kubeconfig. It does not connect: an
// API server that is down causes an error at the first call.
func New(kubeconfig []byte) (*Client, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig is not valid: %w", err)
	}
	return newForConfig(config)
}

func newForConfig(config *rest.Config) (*Client, error) {
	config.Timeout = 30 * time.Second // for one request; waits have their own timeout
	config.QPS = -1                   // no client-side limit: the API server's priority and fairness is enough
	config.UserAgent = fieldManager
	config.ContentType = "application/json" // for the typed and the dynamic client
	config.WarningHandler = rest.NoWarnings{}
	core, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	certs, err := certclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	cached := memory.NewMemCacheClient(disco)
	return &Client{
		config:    config,
		core:      core,
		certs:     certs,
		dynamic:   dyn,
		discovery: cached,
		mapper:    restmapper.NewDeferredDiscoveryRESTMapper(cached),
	}, nil
}

// Core returns the typed client of the core API group, for libraries that need
// one.
func (c *Client) Core() corev1client.CoreV1Interface { return c.core }

// Certificates returns the typed client of certificate signing requests.
func (c *Client) Certificates() certclient.CertificateSigningRequestInterface {
	return c.certs.CertificateSigningRequests()
}

// Version returns the Kubernetes version of the API server, such as "v1.33.8".
func (c *Client) Version() (string, error) {
	info, err := c.discovery.ServerVersion()
	if err != nil {
		return "", err
	}
	return info.GitVersion, nil
}

// waitUntil calls wait.Until with the interval and the reporting of this
// package.
func (w Wait) waitUntil(ctx context.Context, what, next string, cond wait.Condition, diagnose func(context.Context) string) error {
	o := wait.Options{What: what, NextCommand: next, Timeout: w.Timeout, Interval: pollInterval, Diagnose: func(ctx context.Context) string {
		cause := diagnose(ctx)
		if cause == "" && w.Diagnose != nil { // the cluster gives no cause, but its host may
			cause = w.Diagnose(ctx)
		}
		return cause
	}}
	if w.Report != nil {
		o.OnReason = func(reason string) { w.Report(reason, 0, 0) }
	}
	return wait.Until(ctx, o, cond)
}

// retryReason returns an API error as the reason to continue a wait, or as an
// error if waiting cannot fix it.
func retryReason(err error) (bool, string, error) {
	if apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) {
		return false, "", err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	return false, "the API server does not respond yet: " + err.Error(), nil
}
