package k0s

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestRestoreEtcd_GivesK0sAnArchive(t *testing.T) {
	f := hosttest.New(t)
	s := Service{Host: f.Host()}
	testkit.Must(t, s.Host.Write(ConfigPath, strings.NewReader("kind: ClusterConfig\n"), 0o600))
	testkit.Must(t, s.Host.Write(EtcdMemberDir+"/wal/0.wal", strings.NewReader("newer"), 0o600))
	got := map[string]string{}
	f.Expect("/usr/local/bin/k0s restore --config-out=/scratch/k0s.yaml -").Do(func(cmd host.Cmd) {
		if _, err := s.Host.Lstat(EtcdDir); err == nil {
			t.Error("the data that k0s would refuse to replace is still there")
		}
		packed, err := gzip.NewReader(cmd.Stdin)
		testkit.Must(t, err)
		in := tar.NewReader(packed)
		for {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			testkit.Must(t, err)
			content, err := io.ReadAll(in)
			testkit.Must(t, err)
			got[h.Name] = string(content)
		}
	})
	db := EtcdSnapshot{Size: 4, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("data")), nil }}
	testkit.Must(t, s.RestoreEtcd(t.Context(), db, "/scratch"))
	if got["k0s.yaml"] != "kind: ClusterConfig\n" || got["etcd-snapshot.db"] != "data" || len(got) != 2 {
		t.Errorf("%v", got)
	}
	if _, err := s.Host.Lstat("/scratch"); err == nil {
		t.Error("the temporary files are still there")
	}
}
