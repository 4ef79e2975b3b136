package fetch

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sys/unix"
)

// maxAttempts is the number of attempts without any progress. With the pauses
// between them they cover an outage of about 40 seconds.
const maxAttempts = 5

// maxWait is the longest wait that a server can ask for. One that asks for more,
// such as a registry whose daily quota is used up, ends the download.
const maxWait = 2 * time.Minute

// ErrUnusable marks content that was received as published but cannot be used, so
// another attempt does not help.
var ErrUnusable = errors.New("it cannot be used")

// ErrDamaged marks unusable content whose digest is not the published one.
var ErrDamaged = errors.New("it is damaged or was replaced")

// damagedError is an error that is ErrUnusable and ErrDamaged. Its text is that of the error.
type damagedError struct{ error }

func (e damagedError) Is(target error) bool { return target == ErrDamaged }
func (e damagedError) Unwrap() error        { return e.error }

// IsDiskError reports whether err is about the local disk: it is full, for example.
func IsDiskError(err error) bool {
	return errors.Is(err, errDisk) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// Retry calls do until it succeeds, fails permanently, or has used all attempts.
// If do reports progress (further), the count of attempts starts again. The pauses
// between attempts are those of Options.Backoff, or longer if the server asks for
// it. Options.Note is called before each pause.
func (o Options) Retry(ctx context.Context, do func() (further bool, err error)) error {
	first := cmp.Or(max(o.Backoff, 0), time.Second)
	for n, pause := 1, first; ; n++ {
		further, err := do()
		if err == nil || cannotRetry(err) || ctx.Err() != nil {
			return err
		}
		if further {
			n, pause = 1, first
		}
		if n == maxAttempts {
			return fmt.Errorf("%w (after %d attempts)", err, n)
		}
		wait := max(pause, requestedWait(err))
		o.note("%v; attempt %d of %d in %s", err, n+1, maxAttempts, wait.Round(time.Second/10))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause = min(3*pause, max(15*time.Second, first))
	}
}

// requestedWait returns how long the server asks to wait before the next attempt.
func requestedWait(err error) time.Duration {
	var status *statusError
	if errors.As(err, &status) {
		return status.wait
	}
	return 0
}

// statusOf returns the status of the response that caused err; 0 for none.
func statusOf(err error) int {
	var own *statusError
	var registry *transport.Error
	switch {
	case errors.As(err, &own):
		return own.status
	case errors.As(err, &registry):
		return registry.StatusCode
	}
	return 0
}

// IsUnauthorized reports whether err is the answer of a server that requires other
// credentials. Registries answer so for repositories that do not exist, too.
func IsUnauthorized(err error) bool {
	status := statusOf(err)
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// cannotRetry reports whether another attempt cannot fix err.
func cannotRetry(err error) bool {
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong), errors.Is(err, errPlainHTTP), errors.Is(err, ErrUnusable), errors.Is(err, errDisk), errors.As(err, &certificate):
		return true
	case requestedWait(err) > maxWait:
		return true
	case errors.As(err, &name):
		return name.IsNotFound
	}
	status := statusOf(err)
	return status > 0 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
}
