package etcd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	bolt "go.etcd.io/bbolt"

	"github.com/plinthdev/plinth/internal/testkit"
)

// revision returns a revision as the database has it.
func revision(main, sub uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, main)
	return binary.BigEndian.AppendUint64(append(b, '_'), sub)
}

// newDatabase returns the path of a database with these keys.
func newDatabase(t *testing.T, buckets []string, keys ...[]byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(p, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	testkit.Must(t, err, db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			b, err := tx.CreateBucket([]byte(name))
			testkit.Must(t, err)
			if name != "key" {
				continue
			}
			for _, k := range keys {
				testkit.Must(t, b.Put(k, []byte("value")))
			}
		}
		return nil
	}), db.Close())
	return p
}

func TestBumpRevision_AddsARevisionAndCompactsBefore(t *testing.T) {
	// A key that was deleted has a mark after its revision.
	p := newDatabase(t, []string{"key", "meta"}, revision(2, 0), revision(300, 1), append(revision(299, 0), 't'), append(revision(300, 2), 't'))
	testkit.Must(t, BumpRevision(p))
	db, err := bolt.Open(p, 0o600, nil)
	testkit.Must(t, err, db.View(func(tx *bolt.Tx) error {
		want := revision(300+RevisionBump, 0)
		last, value := tx.Bucket([]byte("key")).Cursor().Last()
		if !bytes.Equal(last, want) || len(value) != 0 || tx.Bucket([]byte("key")).Stats().KeyN != 5 {
			t.Errorf("the last revision is %x %q", last, value)
		}
		if got := tx.Bucket([]byte("meta")).Get([]byte("scheduledCompactRev")); !bytes.Equal(got, want) {
			t.Errorf("%x is compacted", got)
		}
		return nil
	}), db.Close())
}

func TestBumpRevision_RefusesOtherFiles(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	testkit.Must(t, os.WriteFile(text, bytes.Repeat([]byte("text"), 10_000), 0o600))
	damaged := newDatabase(t, []string{"key", "meta"}, revision(2, 0))
	raw, err := os.ReadFile(damaged)
	testkit.Must(t, err)
	for i := 2 * os.Getpagesize(); i < len(raw); i++ { // all but the two pages that point to the others
		raw[i] = 0xff
	}
	testkit.Must(t, os.WriteFile(damaged, raw, 0o600))
	for name, c := range map[string]struct{ path, text string }{
		"damaged pages":         {damaged, "is damaged"},
		"not a database":        {text, "cannot open the database"},
		"another database":      {newDatabase(t, []string{"other"}), "not a database of etcd"},
		"database without keys": {newDatabase(t, []string{"key", "meta"}), "is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := BumpRevision(c.path); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %q", err, c.text)
			}
		})
	}
}

func TestStoredMembers_ReadsThoseOfAStoppedEtcd(t *testing.T) {
	p := newDatabase(t, []string{"key", "meta", "members"})
	db, err := bolt.Open(p, 0o600, nil)
	testkit.Must(t, err)
	testkit.Must(t, db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("members"))
		return errors.Join(b.Put([]byte("8e9e05c52164694d"), []byte(`{"id":10276657743932975437,"peerURLs":["https://10.0.0.5:2380"],"name":"a","clientURLs":["https://127.0.0.1:2379"]}`)),
			b.Put([]byte("91bc3c398fb3c146"), []byte(`{"id":10501334649042878790,"peerURLs":["https://10.0.0.6:2380"],"isLearner":true}`)))
	}))
	if _, err := StoredMembers(p); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("a database that is in use: %v", err)
	}
	testkit.Must(t, db.Close())
	got, err := StoredMembers(p)
	want := []Member{{ID: "8e9e05c52164694d", Name: "a", Address: "10.0.0.5"}, {ID: "91bc3c398fb3c146", Address: "10.0.0.6", Learner: true}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := StoredMembers(newDatabase(t, []string{"key"})); err == nil || !strings.Contains(err.Error(), "no members") {
		t.Error(err)
	}
}

func TestAppendHash_MakesASnapshot(t *testing.T) {
	for _, db := range []string{"", "data", strings.Repeat("data", 10_000)} {
		raw, err := io.ReadAll(AppendHash(iotest.HalfReader(strings.NewReader(db))))
		testkit.Must(t, err)
		if !bytes.Equal(raw, snapshotFile(db)) {
			t.Errorf("%d bytes of %d", len(raw), len(db))
		}
		if _, err := io.ReadAll(VerifySnapshot(bytes.NewReader(raw))); err != nil {
			t.Error(err)
		}
	}
}
