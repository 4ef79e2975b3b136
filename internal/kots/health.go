package kots

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

// ConsoleHealth is the health that a running console reports.
type ConsoleHealth struct {
	Version  string // without a v
	Database bool   // the console can access its database
	Storage  bool   // the console can store releases
}

// GetConsoleHealth returns the health of the console at url
// ("https://10.0.0.1:8800"), requested as a browser does. It accepts only the
// certificate cert (PEM), that of Certificate; it does not verify which
// authority signed it.
func GetConsoleHealth(ctx context.Context, url string, cert []byte) (ConsoleHealth, error) {
	res, err := getWithCertificate(ctx, url+"/healthz", cert)
	if err != nil {
		return ConsoleHealth{}, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return ConsoleHealth{}, err
	}
	if res.StatusCode != http.StatusOK {
		return ConsoleHealth{}, fmt.Errorf("it returned %s", res.Status)
	}
	return parseConsoleHealth(body)
}

// getWithCertificate requests url from a server with the certificate cert
// (PEM), and rejects any other server.
func getWithCertificate(ctx context.Context, url string, cert []byte) (*http.Response, error) {
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
					return errors.New("the server uses another certificate than the console")
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

func parseConsoleHealth(body []byte) (ConsoleHealth, error) {
	var resp struct {
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
	if err := json.Unmarshal(body, &resp); err != nil {
		return ConsoleHealth{}, fmt.Errorf("the response is not from the console: %w", err)
	}
	return ConsoleHealth{
		Version:  strings.TrimPrefix(resp.Version, "v"),
		Database: resp.Status.Database.Connected,
		Storage:  resp.Status.Storage.Available,
	}, nil
}

// WaitConsoleHealthy waits until the console responds at url, is healthy, and
// has the given version.
func WaitConsoleHealthy(ctx context.Context, url string, cert []byte, version string, w kube.Wait) error {
	o := wait.Options{What: "the console to respond at " + url, Timeout: w.Timeout, Interval: 300 * time.Millisecond, Diagnose: w.Diagnose,
		NextCommand: "sudo plinth kubectl get pods,events -A"}
	if w.Report != nil {
		o.OnReason = func(reason string) { w.Report(reason, 0, 0) }
	}
	return wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		h, err := GetConsoleHealth(ctx, url, cert)
		switch {
		case err != nil:
			return false, err.Error(), nil
		case h.Version != version:
			return false, fmt.Sprintf("version %s responds, not %s", h.Version, version), nil
		case !h.Database || !h.Storage:
			return false, fmt.Sprintf("its database is connected: %t, its storage available: %t", h.Database, h.Storage), nil
		}
		return true, "", nil
	})
}

// A certificate is considered the only one if it is served this many times in a
// row: after a roll-out, kube-proxy distributes connections over the old and
// the new pod for up to one second, the time between two of its syncs.
const (
	servedTimes    = 8
	servedInterval = 250 * time.Millisecond
)

// waitCertificateServed waits until url serves only the certificate cert (PEM).
// The status of the response does not matter.
func waitCertificateServed(ctx context.Context, url string, cert []byte, w kube.Wait) error {
	inARow := 0
	o := wait.Options{What: "the certificate to be served at " + url, Timeout: w.Timeout, Interval: servedInterval, Diagnose: w.Diagnose,
		NextCommand: "sudo plinth kubectl get pods,events -A"}
	return wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		res, err := getWithCertificate(ctx, url, cert)
		if err != nil {
			inARow = 0
			return false, err.Error(), nil
		}
		inARow++
		return inARow == servedTimes, "the old certificate may still be served", res.Body.Close()
	})
}
