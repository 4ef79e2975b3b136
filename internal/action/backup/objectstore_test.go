package backup

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/testkit/storetest"
)

func TestRun_WritesToAnObjectStore(t *testing.T) {
	_, env := newController(t)
	store := storetest.New(t, "bucket")
	secret := passphraseFile(t, "five random words here")
	opts := Options{To: "s3://bucket/my-app", PerNode: true, Keep: 2, Lock: KeyFlags{PassphraseFile: secret}, Store: store.Settings}
	now := clock()
	var last Result
	for range 3 {
		now = now.Add(time.Hour)
		env.Now = func() time.Time { return now }
		var err error
		last, err = run(t, env, opts, fakeData{etcd: "etcd"})
		testkit.Must(t, err)
	}
	if last.Path != "s3://bucket/my-app/n1/my-app-20261129T150000Z.plinth-backup" || last.Verified != Content || len(last.Removed) != 1 {
		t.Errorf("%+v", last)
	}
	all, err := List(t.Context(), env, "s3://bucket/my-app", store.Settings)
	testkit.Must(t, err)
	if len(all) != 2 || all[0].Path != last.Path || all[0].Size != last.Size || all[0].Cluster != "my-app" {
		t.Errorf("%+v", all)
	}
	v, err := Verify(t.Context(), env, last.Path, KeyFlags{PassphraseFile: secret, Secrets: env.Secrets}, store.Settings)
	if err != nil || v.Verified != Content || v.Files == 0 {
		t.Errorf("%+v %v", v, err)
	}
	if r, ok, err := ReadRecord(env.Host, dataDir); err != nil || !ok || r.Path != last.Path {
		t.Errorf("%+v %v", r, err)
	}
	if env.Secrets.Mask(storetest.SecretKey) != "***" {
		t.Error("the secret key is not hidden")
	}
}

func TestList_HidesTheSecretKeyInACredentialsFile(t *testing.T) {
	_, env := newController(t)
	store := storetest.New(t, "bucket")
	settings := store.Settings
	settings.CredentialsFile = filepath.Join(t.TempDir(), "credentials")
	testkit.Must(t, os.WriteFile(settings.CredentialsFile, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", settings.AccessKey, settings.SecretKey), 0o600))
	settings.AccessKey, settings.SecretKey = "", ""
	_, err := List(t.Context(), env, "s3://bucket/my-app", settings)
	testkit.Must(t, err)
	if env.Secrets.Mask(storetest.SecretKey) != "***" {
		t.Error("the secret key is not hidden")
	}
}

func TestRun_ToAnObjectStoreFailsByName(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*storetest.Server, *Options)
		exit   int
		text   string
	}{
		"unreachable":       {func(s *storetest.Server, _ *Options) { s.Stop() }, problem.ExitUsage, "cannot be reached"},
		"wrong secret":      {func(_ *storetest.Server, o *Options) { o.Store.SecretKey = "other" }, problem.ExitUsage, "the secret key is wrong"},
		"unknown authority": {func(_ *storetest.Server, o *Options) { o.Store.CAFile = "" }, problem.ExitUsage, "authority that this host does not know"},
		"no bucket":         {func(_ *storetest.Server, o *Options) { o.To = "s3://missing/x" }, problem.ExitUsage, "no such bucket"},
		"full": {func(s *storetest.Server, _ *Options) {
			s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut {
					storetest.Refuse(w, http.StatusInsufficientStorage, "InsufficientStorage")
				}
				return r.Method == http.MethodPut
			}
		}, problem.ExitStep, "it is full"},
		"damaged when it is read back": {func(s *storetest.Server, _ *Options) {
			s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				whole := r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, ".plinth-backup")
				if whole {
					w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
					w.Header().Set("ETag", `"1"`)
					_, _ = w.Write(make([]byte, 5000))
				}
				return whole
			}
		}, problem.ExitStep, "cannot be read back, and was removed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, env := newController(t)
			store := storetest.New(t, "bucket")
			opts := Options{To: "s3://bucket/my-app", Lock: KeyFlags{PassphraseFile: passphraseFile(t, "five random words here")}, Store: store.Settings}
			c.change(store, &opts)
			_, err := run(t, env, opts, fakeData{etcd: "etcd"})
			if problem.ExitCode(err) != c.exit || !strings.Contains(err.Error(), c.text) || problem.Hint(err) == "" {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
			store.Intercept = nil
			if left, err := List(t.Context(), env, "s3://bucket/my-app", store.Settings); err == nil && len(left) != 0 {
				t.Errorf("%+v", left)
			}
		})
	}
}

func TestRefusal_DoesNotCallABackupDamagedWhoseStoreFails(t *testing.T) {
	_, failure := objectstore.Open("bucket", objectstore.Settings{Endpoint: "no URL"})
	err := Refusal(t.Context(), "verify it", fmt.Errorf("%w: %w", format.ErrDamaged, failure))
	if problem.ExitCode(err) != problem.ExitUsage || problem.Hint(err) == "" {
		t.Errorf("exit %d, %v", problem.ExitCode(err), err)
	}
}

func TestStore_ThatDoesNotAnswerIsLeftAtAnInterrupt(t *testing.T) {
	interrupted := errors.New("interrupted")
	for name, do := range map[string]func(context.Context, *action.Env, objectstore.Settings) error{
		"list": func(ctx context.Context, env *action.Env, s objectstore.Settings) error {
			_, err := List(ctx, env, "s3://bucket/x", s)
			return err
		},
		"verify": func(ctx context.Context, env *action.Env, s objectstore.Settings) error {
			_, err := Verify(ctx, env, "s3://bucket/x", KeyFlags{}, s)
			return err
		},
		"backup": func(ctx context.Context, env *action.Env, s objectstore.Settings) error {
			_, err := runUntil(ctx, t, env, Options{To: "s3://bucket/x", Lock: KeyFlags{Unencrypted: true}, Store: s}, fakeData{etcd: "etcd"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, env := newController(t)
			store := storetest.New(t, "bucket")
			ctx, cancel := context.WithCancelCause(t.Context())
			store.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
				cancel(interrupted)
				<-r.Context().Done()
				return true
			}
			if err := do(ctx, env, store.Settings); problem.ExitCode(err) != problem.ExitInterrupted || !errors.Is(err, interrupted) || problem.Hint(err) != "nothing was changed" {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
			if r, _, err := ReadRecord(env.Host, dataDir); err != nil || r.FailedAt != nil {
				t.Errorf("%+v %v", r, err)
			}
		})
	}
}
