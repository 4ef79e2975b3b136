package peer

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

	"github.com/plinthdev/plinth/internal/agent"
)

// leaveTimeout bounds one question of a node that leaves: etcd may choose a new
// leader meanwhile.
const leaveTimeout = 100 * time.Second

// Node is a node of a cluster, as its controllers know it by its certificate.
type Node struct {
	client      *http.Client
	controllers []string
}

// NewNode is a node that shows what is in conf, which also says whom it trusts;
// controllers are the addresses of the controllers that it asks. It does not connect.
func NewNode(conf *tls.Config, controllers []string) Node {
	transport := &http.Transport{
		Proxy:               nil, // nodes of a cluster reach each other
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		TLSClientConfig:     conf,
		DisableKeepAlives:   true,
	}
	return Node{&http.Client{Transport: transport, Timeout: leaveTimeout}, controllers}
}

// MayLeave asks what the node's leaving would do.
func (n Node) MayLeave(ctx context.Context) (agent.Farewell, error) {
	return n.ask(ctx, http.MethodGet, "")
}

// Leave asks to be let go; force accepts what is lost.
func (n Node) Leave(ctx context.Context, force bool) error {
	query := ""
	if force {
		query = "?force=yes"
	}
	_, err := n.ask(ctx, http.MethodPost, query)
	return err
}

// ask asks one controller after the other until one answers. A *Denied is the
// cluster's own "no"; all else says of each controller why it did not answer.
func (n Node) ask(ctx context.Context, method, query string) (f agent.Farewell, err error) {
	if len(n.controllers) == 0 {
		return f, errors.New("this host knows no other controller")
	}
	var errs []error
	for _, address := range n.controllers {
		at := net.JoinHostPort(address, strconv.Itoa(agent.Port))
		f, err := n.one(ctx, method, "https://"+at+agent.LeavePath+query)
		var no *Denied
		if err == nil || errors.As(err, &no) || ctx.Err() != nil {
			return f, err
		}
		errs = append(errs, fmt.Errorf("%s: %w", at, err))
	}
	return f, errors.Join(errs...)
}

func (n Node) one(ctx context.Context, method, url string) (f agent.Farewell, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return f, err
	}
	res, err := send(n.client, req)
	if err != nil {
		return f, err
	}
	defer func() { _ = res.Body.Close() }()
	return f, json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&f)
}
