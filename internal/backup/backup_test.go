package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/testkit"
)

// files are the content of the backups of the tests.
func files() map[string]string {
	return map[string]string{EtcdName: strings.Repeat("etcd", 50_000), "host/etc/k0s/k0s.yaml": "kind: ClusterConfig\n",
		"host/var/lib/k0s/pki/ca.key": "secret", "host/empty": ""}
}

// newManifest returns the manifest of a backup of content.
func newManifest(content map[string]string) Manifest {
	at := time.Date(2026, 11, 29, 12, 0, 0, 5, time.UTC)
	m := Manifest{Header: Header{Cluster: "my-app", ClusterID: "pin", Node: "n1", TakenAt: at, Kubernetes: "1.33", K0s: "v1.33.8+k0s.1",
		Bundle: "sha256:1", ReceiptAt: at.Add(-time.Hour)},
		Networks: Networks{"10.244.0.0/16", "10.96.0.0/12"}, Nodes: []Node{{"n1", "controller", "10.0.0.5"}}}
	for _, name := range slices.Sorted(maps.Keys(content)) {
		m.Files = append(m.Files, File{Name: name, Mode: 0o600, Size: int64(len(content[name])), Digest: digest.FromString(content[name])})
	}
	return m
}

// opener returns a function that opens the files of content.
func opener(content map[string]string) func(File) (io.ReadCloser, error) {
	return func(f File) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content[f.Name])), nil }
}

// source returns a Source of a file in memory.
func source(raw []byte) Source {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
}

// writeBackup returns a file with a backup of files.
func writeBackup(t testing.TB, lock Lock) []byte {
	t.Helper()
	var out bytes.Buffer
	sum, err := Write(&out, newManifest(files()), lock, opener(files()))
	testkit.Must(t, err)
	if sum != digest.FromBytes(out.Bytes()) {
		t.Errorf("%s is not the digest of what was written", sum)
	}
	return out.Bytes()
}

// newKeys returns a private key, and the lock and the key of it.
func newKeys(t testing.TB) (Lock, Key, string) {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	testkit.Must(t, err)
	return Lock{Recipients: []age.Recipient{i.Recipient()}}, Key{Identities: []age.Identity{i}}, i.String()
}

func TestExtract_ReturnsWhatWriteWrote(t *testing.T) {
	toKey, withKey, _ := newKeys(t)
	for name, c := range map[string]struct {
		lock Lock
		key  Key
		want Encryption
	}{
		"public key":  {toKey, withKey, ToRecipients},
		"passphrase":  {Lock{Passphrase: "correct horse"}, Key{Passphrase: "correct horse"}, WithPassphrase},
		"unencrypted": {Lock{Unencrypted: true}, Key{}, Unencrypted},
	} {
		t.Run(name, func(t *testing.T) {
			raw := writeBackup(t, c.lock)
			h, sum, err := VerifyBytes(source(raw))
			if err != nil || sum != digest.FromBytes(raw) || h.Encryption != c.want || h.Cluster != "my-app" {
				t.Errorf("%+v %s %v", h, sum, err)
			}
			got := map[string]string{}
			m, err := Extract(source(raw), c.key, func(_ Manifest, f File, r io.Reader) error {
				content, err := io.ReadAll(r)
				got[f.Name] = string(content)
				return err
			})
			if err != nil || !maps.Equal(got, files()) || !m.equal(h) || len(m.Nodes) != 1 {
				t.Errorf("%d files, %+v, %v", len(got), m.Header, err)
			}
			if !bytes.Contains(raw[:headerSize], []byte("my-app")) {
				t.Error("the header is not readable")
			}
			if readable := bytes.Contains(raw[headerSize:], []byte("my-app")); readable && c.want != Unencrypted {
				t.Error("the archive is not encrypted")
			}
		})
	}
}

func TestExtract_RefusesByName(t *testing.T) {
	toKey, withKey, _ := newKeys(t)
	_, otherKey, _ := newKeys(t)
	raw := writeBackup(t, toKey)
	passphrase := writeBackup(t, Lock{Passphrase: "right"})
	plain := writeBackup(t, Lock{Unencrypted: true})
	changed := func(at int) []byte {
		c := bytes.Clone(raw)
		c[at] ^= 1
		return c
	}
	header := len(magic) + 2
	for name, c := range map[string]struct {
		raw  []byte
		key  Key
		err  error
		text string
	}{
		"flipped byte in the header":  {changed(header + 40), withKey, ErrDamaged, ""},
		"flipped byte in the padding": {changed(headerSize - 100), withKey, ErrDamaged, ""},
		"flipped byte in age's lines": {changed(headerSize + 60), withKey, ErrDamaged, "digest does not match"},
		"flipped byte in the archive": {changed(len(raw) - 500), withKey, ErrDamaged, "digest does not match"},
		"flipped byte in the trailer": {changed(len(raw) - 3), withKey, ErrDamaged, "digest does not match"},
		"last byte is missing":        {raw[:len(raw)-1], withKey, ErrDamaged, ""},
		"only the header":             {raw[:headerSize], withKey, ErrDamaged, ""},
		"less than the header":        {raw[:1000], withKey, ErrDamaged, "ends within its header"},
		"something follows":           {append(bytes.Clone(raw), 'x'), withKey, ErrDamaged, ""},
		"another private key":         {raw, otherKey, ErrKey, "not encrypted to the public key of any"},
		"passphrase for keys":         {raw, Key{Passphrase: "x"}, ErrKey, "needs the private key"},
		"no key":                      {raw, Key{}, ErrKey, "needs the private key"},
		"another passphrase":          {passphrase, Key{Passphrase: "wrong"}, ErrKey, "another one"},
		"private key for passphrase":  {passphrase, withKey, ErrKey, "with a passphrase"},
		"private key for plain text":  {plain, withKey, ErrPlain, "it is not encrypted, and a key is given"},
		"passphrase for plain text":   {plain, Key{Passphrase: "right"}, ErrPlain, "it is not encrypted, and a key is given"},
		"a bundle":                    {[]byte("index.json" + strings.Repeat("\x00", 6000)), withKey, ErrNotBackup, ""},
		"nothing":                     {nil, withKey, ErrNotBackup, ""},
		"a newer format":              {append([]byte(magic+"2\n{}"), bytes.Repeat([]byte(" "), 5000)...), withKey, ErrNewer, "format version"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Verify(source(c.raw), c.key)
			if !errors.Is(err, c.err) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("%v, want %v with %q", err, c.err, c.text)
			}
		})
	}
}

// forge returns a file with a valid trailer whose archive has these entries.
func forge(t testing.TB, h Header, entries []*tar.Header, content []string) []byte {
	t.Helper()
	h.Encryption = Unencrypted
	raw, err := h.encode()
	testkit.Must(t, err)
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed)
	testkit.Must(t, err)
	archive := tar.NewWriter(z)
	for i, e := range entries {
		testkit.Must(t, archive.WriteHeader(e))
		_, err := io.WriteString(archive, content[i])
		testkit.Must(t, err)
	}
	testkit.Must(t, archive.Close(), z.Close())
	return seal(append(raw, packed.Bytes()...))
}

// seal returns raw with a trailer.
func seal(raw []byte) []byte {
	sum := sha256.Sum256(raw)
	return append(raw, trailerPrefix+hex.EncodeToString(sum[:])...)
}

func TestExtract_RefusesForgedArchives(t *testing.T) {
	content := files()
	type archive struct {
		m       Manifest
		entries []*tar.Header
		content []string
	}
	whole := func(change func(*archive)) archive {
		a := archive{m: newManifest(content)}
		a.m.Encryption = Unencrypted
		for _, f := range a.m.Files {
			a.entries, a.content = append(a.entries, f.tarHeader()), append(a.content, content[f.Name])
		}
		change(&a)
		return a
	}
	for name, c := range map[string]struct {
		change func(*archive)
		text   string
	}{
		"unchanged":         {func(*archive) {}, ""},
		"parent folder":     {func(a *archive) { a.m.Files[0].Name = "host/../../etc/passwd" }, "with the name"},
		"no prefix":         {func(a *archive) { a.m.Files[0].Name = "etc/passwd" }, "with the name"},
		"relative":          {func(a *archive) { a.m.Files[0].Name = "hostname" }, "with the name"},
		"listed twice":      {func(a *archive) { a.m.Files = append(a.m.Files, a.m.Files[0]) }, "twice"},
		"without etcd":      {func(a *archive) { a.m.Files = a.m.Files[1:] }, "no snapshot of etcd"},
		"huge etcd":         {func(a *archive) { a.m.Files[0].Size = maxEtcd + 1 }, "at most"},
		"huge file":         {func(a *archive) { a.m.Files[1].Size = maxFile + 1 }, "at most"},
		"negative size":     {func(a *archive) { a.m.Files[1].Size = -1 }, "at most"},
		"setuid":            {func(a *archive) { a.m.Files[1].Mode = 0o4755 }, "has the mode"},
		"without a digest":  {func(a *archive) { a.m.Files[1].Digest = "" }, "no SHA-256"},
		"too many files":    {func(a *archive) { a.m.Files = make([]File, maxFiles+1) }, "at most"},
		"too much":          {func(a *archive) { tooMuch(&a.m) }, "at most"},
		"another content":   {func(a *archive) { a.content[0] = "E" + a.content[0][1:] }, "another content"},
		"another size":      {func(a *archive) { a.entries[0].Size++; a.content[0] += "x" }, "another size"},
		"another order":     {func(a *archive) { slices.Reverse(a.entries); slices.Reverse(a.content) }, "is expected"},
		"a link":            {func(a *archive) { a.entries[1].Typeflag, a.entries[1].Linkname = tar.TypeSymlink, "/etc/shadow" }, "is expected"},
		"a file is missing": {func(a *archive) { a.entries = a.entries[:2] }, "is missing"},
		"a file more": {func(a *archive) {
			a.entries, a.content = append(a.entries, File{Name: "x", Size: 1}.tarHeader()), append(a.content, "x")
		}, "more than its manifest"},
		"header was changed": {func(a *archive) { a.m.Cluster = "other" }, "header was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			a := whole(c.change)
			raw := mustJSON(t, a.m)
			entries := append([]*tar.Header{{Typeflag: tar.TypeReg, Name: manifestName, Size: int64(len(raw))}}, a.entries...)
			_, err := Verify(source(forge(t, newManifest(content).Header, entries, append([]string{raw}, a.content...))), Key{})
			if (c.text == "") != (err == nil) || err != nil && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.text)) {
				t.Errorf("%v, want %q", err, c.text)
			}
		})
	}
}

// tooMuch adds files to m until all together exceed the limit.
func tooMuch(m *Manifest) {
	for i := range maxOthers/maxFile + 1 {
		m.Files = append(m.Files, File{Name: fmt.Sprintf("host/%d", i), Mode: 0o600, Size: maxFile, Digest: digest.FromString("")})
	}
}

// TestExtract_StaysWithinItsMemory reads a file whose zstd stream asks for a larger window, and one whose
// age header does not end.
func TestExtract_StaysWithinItsMemory(t *testing.T) {
	_, key, _ := newKeys(t)
	h := newManifest(files()).Header
	h.Encryption = ToRecipients
	head, err := h.encode()
	testkit.Must(t, err)
	endless := seal(append(append(head, "age-encryption.org/v1\n"...), bytes.Repeat([]byte("-> X25519 aaaa\n"), 10<<20/15)...))
	testkit.CheckBounds(t, func() {
		if _, err := Verify(source(endless), key); !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
	})
	h.Encryption = Unencrypted
	head, err = h.encode()
	testkit.Must(t, err)
	window := seal(append(head, 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0, 0, 0, 0)) // 1 GiB
	if _, err := Verify(source(window), Key{}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "window") {
		t.Error(err)
	}
}

func TestWrite_RefusesWhatItCannotRead(t *testing.T) {
	toKey, _, _ := newKeys(t)
	m := newManifest(files())
	long := m
	long.Cluster = strings.Repeat("x", headerSize)
	other := files()
	other[EtcdName] += "more"
	for name, c := range map[string]struct {
		m       Manifest
		lock    Lock
		content map[string]string
		text    string
	}{
		"no lock":        {m, Lock{}, files(), "0 ways to encrypt"},
		"two locks":      {m, Lock{Passphrase: "x", Unencrypted: true}, files(), "2 ways to encrypt"},
		"recipients":     {m, Lock{Recipients: slices.Repeat(toKey.Recipients, maxRecipients+1)}, files(), "at most"},
		"long name":      {long, toKey, files(), "too long"},
		"file that grew": {m, toKey, other, "changed while it was read"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Write(io.Discard, c.m, c.lock, opener(c.content)); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %q", err, c.text)
			}
		})
	}
}

func FuzzExtract(f *testing.F) {
	plain := writeBackup(f, Lock{Unencrypted: true})
	f.Add(plain[headerSize:len(plain)-trailerSize], true)
	f.Add(plain, false)
	f.Add([]byte(magic+"1\n"), false)
	h := newManifest(files()).Header
	h.Encryption = Unencrypted
	header, err := h.encode()
	testkit.Must(f, err)
	f.Fuzz(func(t *testing.T, raw []byte, archive bool) {
		if archive {
			raw = seal(append(bytes.Clone(header), raw...))
		}
		visited := map[string]bool{}
		m, err := Extract(source(raw), Key{}, func(_ Manifest, f File, r io.Reader) error {
			if f.validate() != nil || visited[f.Name] {
				t.Errorf("%q", f.Name)
			}
			visited[f.Name] = true
			content, err := io.ReadAll(r)
			if err == nil && digest.FromBytes(content) != f.Digest {
				t.Errorf("%s has another content", f.Name)
			}
			return err
		})
		if err == nil && (len(visited) != len(m.Files) || !visited[EtcdName]) {
			t.Errorf("%v", visited)
		}
	})
}

func mustJSON(t testing.TB, m Manifest) string {
	t.Helper()
	raw, err := json.Marshal(m)
	testkit.Must(t, err)
	return string(raw)
}
