package kots

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/plinthdev/plinth/internal/kube"
)

// alphabet has 32 letters and digits that are not easily confused, so that the
// low five bits of a byte select one without bias.
const alphabet = "abcdefghijkmnpqrstuvwxyz23456789"

// newPassword returns a password of 80 random bits, in four groups that are
// easy to read out: "k7wq-…".
func newPassword() (string, error) {
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	var out strings.Builder
	for i, b := range raw {
		if i > 0 && i%4 == 0 {
			out.WriteByte('-')
		}
		out.WriteByte(alphabet[b&31])
	}
	return out.String(), nil
}

// updatedAt is the key of the time at which a password was set, by ResetPassword or in the console. The CLI's install sets
// none (pkg/kotsadm/secrets.go, v1.131.2).
const updatedAt = "passwordUpdatedAt"

// HasPassword reports whether a password of the console was set since the console was installed.
func (k *Client) HasPassword(ctx context.Context) (bool, error) {
	secret, err := k.Kube.Secret(ctx, k.Namespace, "kotsadm-password")
	return len(secret.Data[updatedAt]) > 0, err
}

// ResetPassword sets a new random password for the console, ends all sessions
// and any lock-out after failed attempts, and returns the password. It is not
// stored in clear text anywhere: show it once. It does what the CLI's
// reset-password does, which requires a terminal. The console need not be
// running.
func (k *Client) ResetPassword(ctx context.Context) (string, error) {
	password, err := newPassword()
	if err != nil {
		return "", err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return "", err
	}
	secret, err := k.Kube.Secret(ctx, k.Namespace, "kotsadm-password")
	if err != nil {
		return "", err
	}
	labels := maps.Clone(secret.Labels)
	delete(labels, "numAttempts")
	delete(labels, "lastFailure")
	if labels == nil {
		labels = map[string]string{}
	}
	secret.Labels = labels
	secret.Data = map[string][]byte{
		"passwordBcrypt": hash,
		updatedAt:        []byte(time.Now().Format(time.RFC3339)),
	}
	if err := k.Kube.PutSecret(ctx, secret); err != nil {
		return "", err
	}
	return password, k.endSessions(ctx)
}

func (k *Client) endSessions(ctx context.Context) error {
	sessions, err := k.Kube.Secret(ctx, k.Namespace, "kotsadm-sessions")
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	sessions.Data = nil
	return k.Kube.PutSecret(ctx, sessions)
}
