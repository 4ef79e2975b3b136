package etcd

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// message returns a message of etcd's gateway with a part of a snapshot.
func message(part []byte, remaining int) string {
	return fmt.Sprintf(`{"result":{"header":{"revision":"7"},"remaining_bytes":"%d","blob":"%s"}}`+"\n", remaining, base64.StdEncoding.EncodeToString(part))
}

// snapshotFile returns a database as etcd sends it.
func snapshotFile(db string) []byte {
	sum := sha256.Sum256([]byte(db))
	return append([]byte(db), sum[:]...)
}

func TestSnapshot_VerifiesWhatEtcdSends(t *testing.T) {
	file := snapshotFile(strings.Repeat("data", 300))
	damaged := append([]byte("D"), file[1:]...)
	for name, c := range map[string]struct {
		answer string
		err    string
	}{
		"complete":         {message(file[:100], 1132) + message(file[100:], 0), ""},
		"hash in two":      {message(file[:1210], 22) + message(file[1210:], 0), ""},
		"another hash":     {message(damaged, 0), "its hash does not match"},
		"ended too early":  {message(file[:100], 1132), "etcd ended the snapshot after 100 bytes"},
		"nothing":          {"", "etcd ended the snapshot after 0 bytes"},
		"an error":         {message(file[:100], 1132) + `{"error":{"code":14,"message":"no space"}}`, "etcd: no space"},
		"shorter than any": {message([]byte("x"), 0), "its hash does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			client, asked := newGateway(t, map[string]string{"/v3/maintenance/snapshot": c.answer})
			r, err := client.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
			if c.err == "" && !bytes.Equal(got, file) {
				t.Errorf("%d bytes", len(got))
			}
			if err := r.Close(); err != nil || (*asked)[0] != "/v3/maintenance/snapshot {}" {
				t.Error(err, *asked)
			}
		})
	}
}

func FuzzVerifySnapshot(f *testing.F) {
	f.Add([]byte("database"), true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, db []byte, whole bool) {
		file := snapshotFile(string(db))
		if !whole {
			file = file[:len(file)-1]
		}
		got, err := io.ReadAll(VerifySnapshot(iotest.OneByteReader(bytes.NewReader(file))))
		if (err == nil) != whole || whole && !bytes.Equal(got, file) {
			t.Errorf("%d of %d bytes, %v", len(got), len(file), err)
		}
	})
}
