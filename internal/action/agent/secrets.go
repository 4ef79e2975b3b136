package agent

import (
	"context"
	"errors"
	"io/fs"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
)

// SecretsReader gives a host that joins as a controller what all controllers share.
type SecretsReader struct {
	Files host.Files
	Check func(context.Context, agent.Caller) (kube.NodeRecord, error) // returns the record of a client that may have the keys
}

// Read returns the secrets for the client c.
func (d SecretsReader) Read(ctx context.Context, c agent.Caller) (s agent.ControllerSecrets, err error) {
	if _, err := d.Check(ctx, c); err != nil {
		return s, err
	}
	keys, err := k0s.ReadEncryptionKeys(d.Files)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New(k0s.EncryptionConfPath + " is missing on this controller; run there: sudo plinth install --bundle FILE")
	}
	if err != nil {
		return s, agent.ExplainError(err)
	}
	for _, k := range keys {
		s.EncryptionKeys = append(s.EncryptionKeys, agent.EncryptionKey(k))
	}
	return s, nil
}
