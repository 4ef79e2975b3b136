package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// leaveTimeout limits one request of a node that leaves: etcd may have to elect
// a new leader meanwhile.
const leaveTimeout = 100 * time.Second

// LeaveClient sends the requests of a node that leaves its cluster,
// authenticated by its certificate.
type LeaveClient struct {
	client      *http.Client
	controllers []string
}

// NewLeaveClient returns a client that shows certificate, with which this host's agent
// identifies it, to the controllers below the authority with the pin; controllers are
// their addresses. It does not connect.
func NewLeaveClient(certificate tls.Certificate, pin string, controllers []string) LeaveClient {
	client := newHTTPClient(pin, func() (*tls.Certificate, error) { return &certificate, nil }, true)
	client.Timeout = leaveTimeout
	transport := client.Transport.(*http.Transport)
	transport.DisableKeepAlives, transport.ResponseHeaderTimeout = true, 0 // etcd may elect a leader meanwhile
	return LeaveClient{client, controllers}
}

// CheckLeave returns what removing the node would cause.
func (n LeaveClient) CheckLeave(ctx context.Context) (LeaveCheck, error) {
	return n.askControllers(ctx, http.MethodGet, "")
}

// Leave removes the node from the cluster; force accepts losses.
func (n LeaveClient) Leave(ctx context.Context, force bool) error {
	query := ""
	if force {
		query = "?force=yes"
	}
	_, err := n.askControllers(ctx, http.MethodPost, query)
	return err
}

// askControllers sends a request to one controller after another until one
// responds. The error is a *DeniedError if the cluster refuses; else it
// contains the reason for each controller that did not respond.
func (n LeaveClient) askControllers(ctx context.Context, method, query string) (f LeaveCheck, err error) {
	if len(n.controllers) == 0 {
		return f, errNoController
	}
	var errs []error
	for _, address := range n.controllers {
		at := net.JoinHostPort(address, strconv.Itoa(Port))
		f, err := n.askController(ctx, method, "https://"+at+LeavePath+query)
		var no *DeniedError
		if err == nil || errors.As(err, &no) || ctx.Err() != nil {
			return f, err
		}
		errs = append(errs, fmt.Errorf("%s: %w", at, err))
	}
	return f, errors.Join(errs...)
}

// askController sends a request to one controller.
func (n LeaveClient) askController(ctx context.Context, method, url string) (f LeaveCheck, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return f, err
	}
	res, err := sendRequest(n.client, req)
	if err != nil {
		return f, err
	}
	defer func() { _ = res.Body.Close() }()
	return f, json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&f)
}
