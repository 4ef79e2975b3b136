package agent

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestSecretsReader_FollowTheCheckAndTheFile(t *testing.T) {
	h := hosttest.New(t).Host()
	refused := &agent.StatusError{Reason: "controller c2 has joined already", Status: http.StatusUnauthorized}
	var no error
	d := SecretsReader{Files: h, Check: func(context.Context, agent.Caller) (kube.NodeRecord, error) { return kube.NodeRecord{}, no }}

	var status *agent.StatusError
	if _, err := d.Read(t.Context(), agent.Caller{}); !errors.As(err, &status) || status.Status != http.StatusServiceUnavailable || !strings.Contains(status.Reason, k0s.EncryptionConfPath) {
		t.Errorf("without keys: %v", err)
	}
	keys := []k0s.EncryptionKey{{Name: "key2", Secret: bytes.Repeat([]byte{2}, 32)}, {Name: "key1", Secret: bytes.Repeat([]byte{1}, 32)}}
	testkit.Must(t, k0s.WriteEncryptionKeys(h, keys))
	got, err := d.Read(t.Context(), agent.Caller{})
	if err != nil || len(got.EncryptionKeys) != 2 || got.EncryptionKeys[0].Name != "key2" || !bytes.Equal(got.EncryptionKeys[1].Secret, keys[1].Secret) {
		t.Errorf("%v %v", got, err)
	}
	no = refused
	if got, err := d.Read(t.Context(), agent.Caller{}); !errors.Is(err, refused) || len(got.EncryptionKeys) > 0 {
		t.Errorf("refused: %v %v", got, err)
	}
}
