// Package kube owns the few Kubernetes API operations that Plinth needs:
// looking at nodes, pods and workloads, waiting for them with the reason why
// not yet, applying manifests and keeping secrets. It refuses to know what the
// objects are for, and to cache or watch: it polls, so that a restarting API
// server is only one more reason to wait.
package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/plinthdev/plinth/internal/wait"
)

// fieldManager signs what Plinth applies, so that the cluster can tell its
// fields from those of controllers and of the user.
const fieldManager = "plinth"

// pollInterval is the pause between two looks of a wait: short, because what
// is waited for is on the same machine.
const pollInterval = 300 * time.Millisecond

// ErrNotFound says that the cluster answered and has no such object.
var ErrNotFound = errors.New("not found in the cluster")

// Client talks to one cluster's API server.
type Client struct {
	config    *rest.Config
	core      corev1client.CoreV1Interface
	dynamic   dynamic.Interface
	discovery discovery.CachedDiscoveryInterface
	mapper    meta.RESTMapper
}

// Wait bounds a wait and says who is told the reason why it is not over yet.
type Wait struct {
	Timeout time.Duration                            // upper bound
	Culprit func(ctx context.Context) string         // knows more than the cluster tells; may be nil
	Report  func(message string, bytes, total int64) // told each new reason; may be nil
}

// New makes a client from the content of a kubeconfig. It does not connect:
// an API server that is not up shows with the first call.
func New(kubeconfig []byte) (*Client, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig is not usable: %w", err)
	}
	return newForConfig(config)
}

func newForConfig(config *rest.Config) (*Client, error) {
	config.Timeout = 30 * time.Second // one request; waits have their own bound
	config.QPS = -1                   // one patient caller: the server's own fairness is enough
	config.UserAgent = fieldManager
	config.ContentType = "application/json" // for typed and dynamic client alike
	config.WarningHandler = rest.NoWarnings{}
	core, err := corev1client.NewForConfig(config)
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
		dynamic:   dyn,
		discovery: cached,
		mapper:    restmapper.NewDeferredDiscoveryRESTMapper(cached),
	}, nil
}

// Core is the typed client of the core API group, for libraries that want one.
func (c *Client) Core() corev1client.CoreV1Interface { return c.core }

// Version is the server's Kubernetes version, "v1.33.8".
func (c *Client) Version() (string, error) {
	info, err := c.discovery.ServerVersion()
	if err != nil {
		return "", err
	}
	return info.GitVersion, nil
}

// until is wait.Until with this package's interval and reporting.
func (w Wait) until(ctx context.Context, what, next string, cond wait.Condition, culprit func(context.Context) string) error {
	o := wait.Options{What: what, Next: next, Timeout: w.Timeout, Interval: pollInterval, Culprit: func(ctx context.Context) string {
		said := culprit(ctx)
		if said == "" && w.Culprit != nil { // the cluster does not tell, so its host may
			said = w.Culprit(ctx)
		}
		return said
	}}
	if w.Report != nil {
		o.OnReason = func(reason string) { w.Report(reason, 0, 0) }
	}
	return wait.Until(ctx, o, cond)
}

// notYet turns an API error into a reason to wait on, except for those that
// waiting does not mend.
func notYet(err error) (bool, string, error) {
	if apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) {
		return false, "", err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	return false, "the API server does not answer yet: " + err.Error(), nil
}
