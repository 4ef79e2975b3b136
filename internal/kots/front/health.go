package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/wait"
)

// Health is what a running console says of itself.
type Health struct {
	Version  string // without a v
	Database bool   // it reaches its database
	Storage  bool   // it can store releases
}

// Ask asks the console at url ("https://10.0.0.1:8800"), the way a browser
// would, how it is. The one certificate that is accepted is cert (PEM), that
// of Certificate: whom a browser would ask about it does not matter here.
func Ask(ctx context.Context, url string, cert []byte) (Health, error) {
	res, err := get(ctx, url+"/healthz", cert)
	if err != nil {
		return Health{}, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return Health{}, err
	}
	if res.StatusCode != http.StatusOK {
		return Health{}, fmt.Errorf("it answers %s", res.Status)
	}
	return parseHealth(body)
}

// get asks url of whoever shows cert (PEM), and of nobody else.
func get(ctx context.Context, url string, cert []byte) (*http.Response, error) {
	block, _ := pem.Decode(cert)
	if block == nil {
		return nil, errors.New("the console's certificate is not PEM")
	}
	transport := &http.Transport{
		Proxy:             nil,
		DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, //nolint:gosec // replaced by the comparison below
			VerifyConnection: func(s tls.ConnectionState) error {
				if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, block.Bytes) {
					return errors.New("another certificate than the console's is served there")
				}
				return nil
			},
		},
	}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

func parseHealth(body []byte) (Health, error) {
	var answer struct {
		Version string `json:"version"`
		Status  struct {
			Database struct {
				Connected bool `json:"connected"`
			} `json:"database"`
			Storage struct {
				Available bool `json:"available"`
			} `json:"storage"`
		} `json:"status"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Health{}, fmt.Errorf("what answers is not the console: %w", err)
	}
	return Health{
		Version:  strings.TrimPrefix(answer.Version, "v"),
		Database: answer.Status.Database.Connected,
		Storage:  answer.Status.Storage.Available,
	}, nil
}

// WaitAnswer waits until the console answers at url, is healthy, and is of the
// given version.
func WaitAnswer(ctx context.Context, url string, cert []byte, version string, w kube.Wait) error {
	o := wait.Options{What: "the console to answer at " + url, Timeout: w.Timeout, Interval: 300 * time.Millisecond, Culprit: w.Culprit,
		Next: "sudo plinth kubectl get pods,events -A"}
	if w.Report != nil {
		o.OnReason = func(reason string) { w.Report(reason, 0, 0) }
	}
	return wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		h, err := Ask(ctx, url, cert)
		switch {
		case err != nil:
			return false, err.Error(), nil
		case h.Version != version:
			return false, fmt.Sprintf("version %s answers, not %s", h.Version, version), nil
		case !h.Database || !h.Storage:
			return false, fmt.Sprintf("its database is connected: %t, its storage available: %t", h.Database, h.Storage), nil
		}
		return true, "", nil
	})
}

// Seen this often in a row, an answer is no longer one of two: after a roll-out
// kube-proxy spreads connections over the old pod and the new for up to the
// second between two of its syncs.
const (
	shownTimes    = 8
	shownInterval = 250 * time.Millisecond
)

// waitShown waits until url shows cert (PEM), whatever else it answers, and
// nothing else any more.
func waitShown(ctx context.Context, url string, cert []byte, w kube.Wait) error {
	inARow := 0
	o := wait.Options{What: "the certificate to be shown at " + url, Timeout: w.Timeout, Interval: shownInterval, Culprit: w.Culprit,
		Next: "sudo plinth kubectl get pods,events -A"}
	return wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		res, err := get(ctx, url, cert)
		if err != nil {
			inARow = 0
			return false, err.Error(), nil
		}
		inARow++
		return inARow == shownTimes, "the old one may still be shown", res.Body.Close()
	})
}
