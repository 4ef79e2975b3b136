package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/testkit/storetest"
)

func TestBackupList_NamesTheStoreInTheNextCommand(t *testing.T) {
	store := storetest.New(t, "bucket").Settings
	credentials := filepath.Join(t.TempDir(), "my credentials")
	testkit.Must(t, os.WriteFile(credentials, []byte("[default]\naws_access_key_id="+storetest.AccessKey+"\naws_secret_access_key="+storetest.SecretKey+"\n"), 0o600))
	next := " plinth backup --to s3://bucket/p --s3-endpoint " + store.Endpoint + " --s3-ca-file " + store.CAFile + " --s3-credentials-file '" + credentials + "'\n"
	for name, c := range map[string]struct {
		environ []string
		sudo    bool
		want    string
	}{
		"of root":                   {nil, false, "\nNext:" + next},
		"of a user":                 {nil, true, "\nNext: sudo" + next},
		"of a user with a variable": {[]string{"AWS_REGION=us-east-1"}, true, "\nNext: sudo -E" + next},
		"of a user with a home":     {[]string{"HOME=/root"}, true, "\nNext: sudo" + next},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := Run(t.Context(), Process{Out: &stdout, Err: &stderr, NeedsSudo: c.sudo, Environ: c.environ},
				[]string{"backup", "list", "s3://bucket/p", "--s3-credentials-file", credentials, "--s3-endpoint", store.Endpoint, "--s3-ca-file", store.CAFile})
			if want := "There is no backup in s3://bucket/p.\n" + c.want; code != 0 || stdout.String() != want {
				t.Errorf("exit %d, %q, want %q\n%s", code, stdout.String(), want, stderr.String())
			}
		})
	}
}
