package objectstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/testkit/storetest"
)

// open returns the bucket of a store for tests.
func open(t *testing.T, s objectstore.Settings) *objectstore.Store {
	t.Helper()
	store, err := objectstore.Open("bucket", s)
	testkit.Must(t, err)
	return store
}

// randomBytes returns n bytes that cannot be compressed.
func randomBytes(n int) []byte {
	source := rand.NewChaCha8([32]byte{1})
	data := make([]byte, n)
	_, _ = source.Read(data)
	return data
}

func TestStore_WritesReadsListsAndRemoves(t *testing.T) {
	store := open(t, storetest.New(t, "bucket").Settings)
	data := randomBytes(40 << 20) // three parts
	testkit.Must(t, store.Write(t.Context(), "p/n1/a", io.MultiReader(bytes.NewReader(data))), store.Write(t.Context(), "p/b", strings.NewReader("small")),
		store.Write(t.Context(), "other", strings.NewReader("x")))
	for name, want := range map[string][]byte{"p/n1/a": data, "p/b": []byte("small"), "other": []byte("x")} {
		t.Run("read "+name, func(t *testing.T) {
			r, err := store.Open(t.Context(), name)
			testkit.Must(t, err)
			got, err := io.ReadAll(r)
			testkit.Must(t, err, r.Close())
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes of %d are different", len(got), len(want))
			}
		})
	}
	t.Run("read the start", func(t *testing.T) {
		r, err := store.OpenStart(t.Context(), "p/n1/a", 100)
		testkit.Must(t, err)
		got, err := io.ReadAll(r)
		testkit.Must(t, err, r.Close())
		if !bytes.Equal(got, data[:100]) {
			t.Errorf("%d bytes", len(got))
		}
	})
	for _, c := range []struct {
		prefix    string
		recursive bool
		want      []objectstore.Object
	}{
		{"p/", false, []objectstore.Object{{Key: "p/b", Size: 5}}},
		{"p/", true, []objectstore.Object{{Key: "p/b", Size: 5}, {Key: "p/n1/a", Size: 40 << 20}}},
		{"", false, []objectstore.Object{{Key: "other", Size: 1}}},
		{"nothing/", true, nil},
	} {
		t.Run("list "+c.prefix, func(t *testing.T) {
			if got, err := store.List(t.Context(), c.prefix, c.recursive); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%+v %v", got, err)
			}
		})
	}
	testkit.Must(t, store.Remove(t.Context(), "p/b"), store.Remove(t.Context(), "p/b"))
	if _, err := store.Open(t.Context(), "p/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// brokenReader fails after a part was sent.
type brokenReader struct{ io.Reader }

func (b brokenReader) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		err = errors.New("the disk is broken")
	}
	return n, err
}

func TestStoreWrite_LeavesNoPartOfAnObject(t *testing.T) {
	store := open(t, storetest.New(t, "bucket").Settings)
	err := store.Write(t.Context(), "a", brokenReader{bytes.NewReader(randomBytes(20 << 20))})
	if err == nil || !strings.Contains(err.Error(), "the disk is broken") {
		t.Errorf("%v", err)
	}
	if all, err := store.List(t.Context(), "", true); err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
}

func TestStore_ExplainsFailures(t *testing.T) {
	refuse := func(status int, code string) func(*storetest.Server) {
		return func(s *storetest.Server) {
			s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPost || r.Method == http.MethodPut {
					storetest.Refuse(w, status, code)
					return true
				}
				return false
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*storetest.Server)
		bucket string
		text   string
	}{
		"unreachable":        {func(s *storetest.Server) { s.Stop() }, "bucket", "cannot be reached: connection refused"},
		"unknown name":       {func(s *storetest.Server) { s.Settings.Endpoint = "https://store.invalid" }, "bucket", "the object store store.invalid cannot be reached"},
		"unknown authority":  {func(s *storetest.Server) { s.Settings.CAFile = "" }, "bucket", "authority that this host does not know"},
		"unknown access key": {func(s *storetest.Server) { s.Settings.AccessKey = "other" }, "bucket", "does not know the access key (InvalidAccessKeyId)"},
		"wrong secret key":   {func(s *storetest.Server) { s.Settings.SecretKey = "other" }, "bucket", "the secret key is wrong (SignatureDoesNotMatch)"},
		"no bucket":          {func(*storetest.Server) {}, "missing", "it has no such bucket"},
		"versitygw's word":   {refuse(http.StatusNotFound, "XAdminUserNotFound"), "bucket", "does not know the access key (XAdminUserNotFound)"},
		"not allowed":        {refuse(http.StatusForbidden, "AccessDenied"), "bucket", "do not allow it (AccessDenied)"},
		"full disk":          {refuse(http.StatusInsufficientStorage, "InsufficientStorage"), "bucket", "it is full"},
		"full quota":         {refuse(http.StatusForbidden, "QuotaExceeded"), "bucket", "it is full (QuotaExceeded)"},
		"disk full inside":   {refuse(http.StatusInternalServerError, "InternalError"), "bucket", "it reports an internal error (InternalError)"},
		"clock":              {refuse(http.StatusForbidden, "RequestTimeTooSkewed"), "bucket", "the clock of this host"},
		"another error":      {refuse(http.StatusBadRequest, "InvalidRequest"), "bucket", "refuses the request (InvalidRequest)"},
	} {
		t.Run(name, func(t *testing.T) {
			server := storetest.New(t, "bucket")
			c.change(server)
			store, err := objectstore.Open(c.bucket, server.Settings)
			testkit.Must(t, err)
			err = store.Write(t.Context(), "a", strings.NewReader("x"))
			if err == nil || !strings.Contains(err.Error(), c.text) || problem.Hint(err) == "" {
				t.Errorf("%v → %s", err, problem.Hint(err))
			}
			if err != nil && strings.Contains(err.Error(), storetest.SecretKey) {
				t.Error("the error contains the secret key")
			}
		})
	}
}

func TestOpen_RefusesSettings(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		testkit.Must(t, os.WriteFile(p, []byte(text), 0o600), os.Chmod(p, mode))
		return p
	}
	const good = "[other]\naws_access_key_id = x\n[default]\ncredential_process = /bin/false\naws_access_key_id = a\naws_secret_access_key=b=c\n"
	for name, c := range map[string]struct {
		settings objectstore.Settings
		text     string // "" for none
	}{
		"a file":                      {objectstore.Settings{CredentialsFile: file("good", good, 0o600)}, ""},
		"a file that others can read": {objectstore.Settings{CredentialsFile: file("open", good, 0o644)}, "other users can read"},
		"another profile":             {objectstore.Settings{CredentialsFile: file("profile", good, 0o600), Profile: "other"}, "of the profile other"},
		"no credentials":              {objectstore.Settings{}, "there are no credentials for the object store"},
		"a missing file":              {objectstore.Settings{CredentialsFile: filepath.Join(dir, "none")}, filepath.Join(dir, "none") + ": no such file"},
		"a file that is too large":    {objectstore.Settings{CredentialsFile: file("large", good+strings.Repeat("#", 1<<20), 0o600)}, "has more than 1048576 bytes"},
		"no URL":                      {objectstore.Settings{Endpoint: "store:9000"}, "not an http:// or https:// URL"},
		"a password in the URL":       {objectstore.Settings{Endpoint: "https://u:p@store"}, "not an http:// or https:// URL"},
		"no certificate":              {objectstore.Settings{AccessKey: "a", SecretKey: "b", CAFile: file("ca", "x", 0o600)}, "contains no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := objectstore.Open("bucket", c.settings)
			if (err != nil) != (c.text != "") || err != nil && (!strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "open :") || problem.Hint(err) == "") {
				t.Errorf("%v → %s", err, problem.Hint(err))
			}
		})
	}
}

func TestSettings_WithEnvironmentFillsWhatIsNotSet(t *testing.T) {
	env := map[string]string{"AWS_ENDPOINT_URL": "https://a", "AWS_ENDPOINT_URL_S3": "https://b", "AWS_REGION": "r", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "HOME": "/root"}
	get := func(name string) string { return env[name] }
	if s := (objectstore.Settings{Region: "mine"}).WithEnvironment(get); s.Endpoint != "https://b" || s.Region != "mine" || s.AccessKey != "k" || s.SecretKey != "s" || s.CredentialsFile != "/root/.aws/credentials" {
		t.Errorf("%+v", s)
	}
	if s := (objectstore.Settings{CredentialsFile: "/f"}).WithEnvironment(get); s.AccessKey != "" || s.CredentialsFile != "/f" {
		t.Errorf("the environment wins over a file that was named: %+v", s)
	}
}

func TestInEnvironment_IgnoresTheHomeFolder(t *testing.T) {
	for name, want := range map[string]bool{"HOME": false, "PATH": false, "AWS_ACCESS_KEY_ID": true, "AWS_REGION": true, "AWS_SHARED_CREDENTIALS_FILE": true} {
		t.Run(name, func(t *testing.T) {
			if got := objectstore.InEnvironment(func(n string) string { return map[string]string{name: "x"}[n] }); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

func TestParseURL_RefusesSecretsWithoutShowingThem(t *testing.T) {
	for name, c := range map[string]struct{ url, want string }{
		"a query":               {"s3://bucket/x?secret=p4ssw0rd", "the URL of a bucket has no query"},
		"a query of the bucket": {"s3://bucket?secret=p4ssw0rd", "the URL of a bucket has no query"},
		"a fragment":            {"s3://bucket/x#p4ssw0rd", "the URL of a bucket has no query"},
		"keys":                  {"s3://AKIA:p4ssw0rd@bucket/x", "the URL of a bucket has no credentials: they are in the environment, or in the file of --s3-credentials-file"},
		"keys with a slash":     {"s3://AKIA:p4ssw0rd/x@bucket/x", "the URL of a bucket has no credentials: they are in the environment, or in the file of --s3-credentials-file"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := objectstore.ParseURL(c.url); err == nil || err.Error() != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
	if l, err := objectstore.ParseURL("s3://bucket/user@host/x"); err != nil || l.Key != "user@host/x" {
		t.Errorf("%+v, %v", l, err)
	}
}

func FuzzParseURL(f *testing.F) {
	for _, text := range []string{"s3://bucket/a/b", "s3://bucket", "s3://b/../c", "s3:///", "https://x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := objectstore.ParseURL(text)
		if err != nil {
			return
		}
		again, err := objectstore.ParseURL(l.String())
		if err != nil || again != l {
			t.Errorf("%q is %+v, and again %+v %v", text, l, again, err)
		}
	})
}

func TestStoreWrite_RemovesPartsThatAKilledRunLeft(t *testing.T) {
	server := storetest.New(t, "bucket")
	upload := func(key string, age time.Duration) string {
		return fmt.Sprintf("<Upload><Key>%s</Key><UploadId>of-%s</UploadId><Initiated>%s</Initiated></Upload>", key, path.Base(key),
			time.Now().Add(-age).UTC().Format(time.RFC3339))
	}
	uploads := map[string]string{"p/old": upload("p/old", 25*time.Hour), "p/new": upload("p/new", time.Hour)}
	var aborted []string
	server.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		query := r.URL.Query()
		switch {
		case r.Method == http.MethodGet && query.Has("uploads"):
			fmt.Fprint(w, `<ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>bucket</Bucket>`)
			for _, key := range slices.Sorted(maps.Keys(uploads)) {
				if strings.HasPrefix(key, query.Get("prefix")) {
					fmt.Fprint(w, uploads[key])
				}
			}
			fmt.Fprint(w, `<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>`)
			return true
		case r.Method == http.MethodDelete && query.Has("uploadId"):
			aborted = append(aborted, query.Get("uploadId"))
			w.WriteHeader(http.StatusNoContent)
			return true
		}
		return false
	}
	store := open(t, server.Settings)
	testkit.Must(t, store.Write(t.Context(), "p/a", strings.NewReader("x")))
	if !slices.Equal(aborted, []string{"of-old"}) {
		t.Errorf("%q", aborted)
	}
	t.Run("a store that does not list them", func(t *testing.T) {
		server.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
			listing := r.Method == http.MethodGet && r.URL.Query().Has("uploads")
			if listing {
				storetest.Refuse(w, http.StatusForbidden, "AccessDenied")
			}
			return listing
		}
		testkit.Must(t, store.Write(t.Context(), "p/b", strings.NewReader("x")))
	})
}

func TestStoreList_RefusesMoreThanFitsInMemory(t *testing.T) {
	// page returns the objects of a list from the first on, of a store with total ones whose names have a length.
	page := func(out io.Writer, first, count, total, length int) {
		w := bufio.NewWriterSize(out, 1<<20)
		defer w.Flush()
		fmt.Fprintf(w, `<ListBucketResult><IsTruncated>%t</IsTruncated><NextContinuationToken>%d</NextContinuationToken>`, first+count < total, first+count)
		for i := first; i < min(first+count, total); i++ {
			fmt.Fprintf(w, "<Contents><Key>p/%0*d</Key></Contents>", length-len("p/"), i)
		}
		fmt.Fprint(w, "</ListBucketResult>")
	}
	for name, c := range map[string]struct {
		total, perPage, length int
		want                   string // in the error; "" for none
	}{
		"as many as are allowed": {100_000, 1000, 12, ""},
		"one more":               {100_001, 1000, 12, "has more than 100000 objects below s3://bucket/p"},
		"long names":             {20_000, 1000, 1024, "below s3://bucket/p whose names have more than 16777216 bytes"},
		"one page without end":   {1 << 40, 1 << 40, 1024, `sends a list below "p/" of which a page has more than 8388608 bytes`},
	} {
		t.Run(name, func(t *testing.T) {
			server := storetest.New(t, "bucket")
			server.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				first, _ := strconv.Atoi(r.URL.Query().Get("continuation-token"))
				page(&stopped{w, r.Context()}, first, c.perPage, c.total, c.length)
				return true
			}
			all, err := open(t, server.Settings).List(t.Context(), "p/", true)
			switch {
			case c.want == "":
				if err != nil || len(all) != c.total {
					t.Errorf("%d objects, %v", len(all), err)
				}
			case err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(problem.Hint(err), "prefix with fewer objects") || !objectstore.IsFailure(err) || len(all) > 0:
				t.Errorf("%d objects, %v → %s", len(all), err, problem.Hint(err))
			}
		})
	}
}

// stopped is a response that ends its handler when the client has closed the connection.
type stopped struct {
	io.Writer
	ctx context.Context
}

func (s *stopped) Write(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
	n, err := s.Writer.Write(p)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return n, nil
}
