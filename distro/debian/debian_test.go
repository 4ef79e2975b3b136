package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const validLine = "bash-static bookworm 5.2.15-2+b13 f62e37fc6c2c14417f270323066b4c621db5dc151a26f7a1f58e3fc24111d1c8 1079448 pool/main/b/bash/bash-static_5.2.15-2+b13_amd64.deb MPL-2.0 AND GPL-2.0-or-later"

func TestParse_RoundTripsLockFile(t *testing.T) {
	text := "# about\n" + validLine + "\n"
	l, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(l.Bytes()); got != text {
		t.Errorf("got %q, want %q", got, text)
	}
	if e, err := l.Get("bash-static"); err != nil || e.License != "MPL-2.0 AND GPL-2.0-or-later" || e.Size != 1079448 {
		t.Errorf("got %+v, %v", e, err)
	}
	if _, err := l.Get("zsh"); err == nil || !strings.Contains(err.Error(), "zsh") {
		t.Errorf("an unknown package: %v", err)
	}
}

func TestLoad_ReadsRepositoryLockFile(t *testing.T) {
	l, err := Load("../" + LockFile)
	if err != nil || len(l.Entries) == 0 {
		t.Errorf("%d entries, %v", len(l.Entries), err)
	}
}

func TestParse_ReportsEveryBadLine(t *testing.T) {
	bad := []struct{ from, to, want string }{
		{"pool/main", "/etc", "is not a path in the pool"},
		{"pool/main", "pool/../..", "is not a path in the pool"},
		{"1079448", "-1", "is not a size"},
		{"f62e", "xxxx", "is not a sha256"},
		{" MPL-2.0 AND GPL-2.0-or-later", "", "6 fields"},
		{"bash-static bookworm", "bash-static trixie", "twice"},
	}
	text := validLine + "\n"
	for _, b := range bad {
		text += strings.Replace(validLine, b.from, b.to, 1) + "\n"
	}
	_, err := Parse([]byte(text))
	if err == nil {
		t.Fatal("no error")
	}
	for i, b := range bad {
		t.Run(fmt.Sprintf("line %d %s", i+2, b.want), func(t *testing.T) {
			if want := "line " + string(rune('2'+i)); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), b.want) {
				t.Errorf("error lacks %q or %q:\n%v", want, b.want, err)
			}
		})
	}
}

func writeContent(t *testing.T, w io.Writer, content string) {
	if _, err := io.WriteString(w, content); err != nil {
		t.Error(err)
	}
}

func entryFor(content string) Entry {
	sum := sha256.Sum256([]byte(content))
	return Entry{Name: "x.orig", Version: "1", Sum: hex.EncodeToString(sum[:]), Size: int64(len(content)), Path: "pool/x.tar.xz", License: "MIT"}
}

func TestFetch_TriesEverySiteAndKeepsFile(t *testing.T) {
	hits := 0
	gone := httptest.NewServer(http.NotFoundHandler())
	defer gone.Close()
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits++
		if r.URL.Path != "/pool/x.tar.xz" {
			t.Errorf("%s was requested", r.URL.Path)
		}
		writeContent(t, w, "content")
	}))
	defer good.Close()
	m := &Mirror{Dir: t.TempDir(), Sites: []string{gone.URL, good.URL}}
	for range 2 {
		file, err := m.Fetch(context.Background(), entryFor("content"))
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(file); string(b) != "content" {
			t.Errorf("file has the content %q", b)
		}
	}
	if hits != 1 {
		t.Errorf("downloaded %d times", hits)
	}
}

func TestFetch_RefusesOtherDigest(t *testing.T) {
	for name, sent := range map[string]string{"altered": "c0ntent", "truncated": "cont", "longer": "content and more"} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeContent(t, w, sent) }))
			defer srv.Close()
			m := &Mirror{Dir: t.TempDir(), Sites: []string{srv.URL}}
			_, err := m.Fetch(context.Background(), entryFor("content"))
			if err == nil || !strings.Contains(err.Error(), "sha256 is") {
				t.Errorf("got %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(m.Dir, "*")); len(left) > 0 {
				t.Errorf("leftover files: %v", left)
			}
		})
	}
}

func TestParsePackage_UpdatesEntry(t *testing.T) {
	old := Entry{Name: "bash-static", Suite: "bookworm", License: "GPL-3.0-or-later"}
	out := "Package: bash-static\nVersion: 5.3-1\nDescription: shell\n with more\nFilename: pool/main/b/bash/bash-static_5.3-1_amd64.deb\nSize: 12\nSHA256: " + strings.Repeat("a", 64) + "\n\nPackage: other\nVersion: 9\n"
	e, err := parsePackage(old, out)
	if err != nil || e.Version != "5.3-1" || e.Size != 12 || e.License != old.License || e.Suite != "bookworm" {
		t.Errorf("got %+v, %v", e, err)
	}
	if _, err := parsePackage(old, "Package: bash-static\n"); err == nil {
		t.Error("a paragraph without a file was accepted")
	}
}

func TestParseSource_FindsUpstreamTarball(t *testing.T) {
	out := "Package: iptables\nVersion: 1.8.9-2\nDirectory: pool/main/i/iptables\nChecksums-Sha256:\n " +
		strings.Repeat("b", 64) + " 10 iptables_1.8.9-2.dsc\n " + strings.Repeat("d", 64) + " 30 iptables_1.8.9.orig.tar.xz.asc\n " + strings.Repeat("c", 64) + " 20 iptables_1.8.9.orig.tar.xz\n"
	e, err := parseSource(Entry{Name: "iptables.orig", Suite: "s", License: "L"}, out)
	if err != nil || e.Path != "pool/main/i/iptables/iptables_1.8.9.orig.tar.xz" || e.Size != 20 || e.Sum != strings.Repeat("c", 64) {
		t.Errorf("got %+v, %v", e, err)
	}
	if _, err := parseSource(Entry{Name: "x.orig"}, "Package: x\n"); err == nil {
		t.Error("a source without a tarball was accepted")
	}
}

func TestDiff_ListsOnlyChangedEntries(t *testing.T) {
	from := &Lock{Entries: []Entry{{Name: "a", Version: "1"}, {Name: "b", Version: "1"}}}
	to := &Lock{Entries: []Entry{{Name: "a", Version: "1"}, {Name: "b", Version: "2"}}}
	if got := Diff(from, to); !strings.Contains(got, "- b  1") || !strings.Contains(got, "+ b  2") || strings.Contains(got, "a  1") {
		t.Errorf("got %q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(validLine))
	f.Add([]byte("# c\n\n" + validLine + "\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(l.Bytes())
		if err != nil || len(again.Entries) != len(l.Entries) {
			t.Errorf("after writing and parsing it again: %v, %d entries became %d", err, len(l.Entries), len(again.Entries))
		}
	})
}

func FuzzFields(f *testing.F) {
	f.Add("Package: x\nVersion: 1\n a b c\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseSource(Entry{Name: "x.orig", License: "L"}, text)
		if err == nil && !sha256Hex.MatchString(e.Sum) {
			t.Errorf("accepted the sum %q", e.Sum)
		}
	})
}

func TestSourcesList_AddsSecurityUpdatesOfSuite(t *testing.T) {
	list := sourcesList([]string{"http://mirror/debian", "http://mirror/debian-security", "http://other/apt"}, "bookworm")
	if n := strings.Count(list, "\n"); n != 3 || !strings.Contains(list, " http://mirror/debian-security bookworm-security main\n") || strings.Contains(list, "other") {
		t.Errorf("got %q", list)
	}
	if list := sourcesList([]string{"http://mirror/debian"}, "trixie"); strings.Contains(list, "security") {
		t.Errorf("without a mirror of security updates: %q", list)
	}
}
